import Formats
import Tensors

/// The run of neighbouring layers of a model that one of several processes holds. The first stage has the embedding
/// too, the last one the final norm and the output module.
public struct Stage: Sendable, Equatable {
  /// Its place among the stages, from 0.
  public let index: Int
  /// How many stages there are.
  public let count: Int
  /// The layers, from 0.
  public let layers: Range<Int>

  /// A stage of `layerCount` layers that are cut into runs of nearly the same length.
  /// - Throws: `ModelError.fewLayers` where a stage would have none.
  public init(_ index: Int, of count: Int, layerCount: Int) throws(ModelError) {
    guard count <= layerCount else { throw .fewLayers(layers: layerCount, stages: count) }
    (self.index, self.count) = (index, count)
    layers = layerCount * index / count..<layerCount * (index + 1) / count
  }

  /// Whether it begins with the embedding.
  public var isFirst: Bool { index == 0 }
  /// Whether it ends with the loss.
  public var isLast: Bool { index == count - 1 }

  /// The stage that has a layer, of a model of so many layers.
  static func index(ofLayer layer: Int, of count: Int, layerCount: Int) -> Int {
    (0..<count).first { layer < layerCount * ($0 + 1) / count } ?? count - 1
  }
}

extension LanguageModel {
  /// The stage that has a module's adapters and computes with it; 0 for a model in one piece. A tied output module is
  /// the embedding, so that it is of the first.
  package func stageIndex(of module: Module) -> Int {
    guard let stage else { return 0 }
    if let layer = module.layer { return Stage.index(ofLayer: layer, of: stage.count, layerCount: spec.layerCount) }
    return module === modules.first ? 0 : stage.count - 1
  }

  /// Whether this process has a module's adapters.
  package func holds(_ module: Module) -> Bool { stageIndex(of: module) == stage?.index ?? 0 }

  /// Whether this process needs a module's weight: those that it holds, and a tied output module where the loss is.
  package func reads(_ module: Module) -> Bool { holds(module) || stage?.isLast ?? true && module === outputModule }

  /// What this process holds, in module order; all of a model in one piece.
  package var heldModules: [Module] { stage == nil ? modules : modules.filter(holds) }

  /// What other processes train.
  package var parametersElsewhere: [(name: String, elementCount: Int, stage: Int)] {
    modules.filter { !holds($0) }.flatMap { module in
      module.adapters.flatMap { adapter in
        adapter.parameters.filter(\.tensor.requiresGradient).map {
          (adapter.uniqueName($0.name), $0.tensor.elementCount, stageIndex(of: module))
        }
      }
    }
  }

  /// - Throws: `ModelError.staged` where other processes hold layers that `operation` needs.
  package func requireWhole(_ operation: String) throws(ModelError) {
    if let stage { throw .staged(operation: operation, stages: stage.count) }
  }

  /// - Throws: `ModelError.staged` for what joins the layers beyond their outputs.
  func checkStage() throws(ModelError) {
    if spec.experts?.addsBalance ?? false { try requireWhole("the loss of routers") }
  }

  /// Runs `body` while the model has, in the place of its adapters, what `replacement` makes of those that other
  /// processes hold, and counts as whole in what is trained.
  package func withWholeAdapters<R>(
    _ replacement: (Adapter, _ stage: Int) throws -> Adapter, _ body: () throws -> R
  ) throws -> R {
    let (sets, names) = (adapterSets, namesInUse)
    defer {
      (adapterSets, isGathered) = (sets, false)
      use(names)
    }
    adapterSets = try sets.map { set in
      AdapterSet(
        set.name,
        try set.members.map { module, adapter in
          (module, holds(module) ? adapter : try replacement(adapter, stageIndex(of: module)))
        })
    }
    isGathered = true
    use(names)
    return try body()
  }
}

extension Tensor {
  /// A tensor that only another process has: a shape without elements, of which nothing may be read.
  package convenience init(elsewhere shape: [Int], on backend: any Backend) throws {
    let none = FileBytes(UnsafeRawBufferPointer(start: nil, count: 0), owner: Nobody())
    self.init(storage: try backend.adopt(none), dtype: .f32, shape: shape)
  }

  /// Whether only another process has the elements.
  package var isElsewhere: Bool { elementCount > 0 && storage.file?.bytes.isEmpty ?? false }

  private final class Nobody: Sendable {}
}
