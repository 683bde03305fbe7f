import Autograd
import Formats
import Models
import Tensors

/// LoRA on the embedding: row_i = W_i + scaling * B A_i, with A [rank, vocabulary] and B [width, rank]. Dropout is not
/// for the rows.
///
/// Where the embedding is the output matrix too, the logits change with it if `isTied`: then A and B are trained by
/// both, and dropout masks what the logits see. Otherwise the output matrix stays the frozen one.
public struct EmbeddingLoRA: EmbeddingMethod {
  /// PEFT's name of the method, `LORA`.
  public static let peftType = LoRA.peftType
  static let (nameOfA, nameOfB) = ("lora_embedding_A", "lora_embedding_B")

  /// Rank, alpha, dropout and learning rates.
  public var low: LoRA
  /// Whether a tied output matrix has the adapter too: PEFT's `ensure_weight_tying`.
  public var isTied: Bool

  /// LoRA with these settings.
  public init(_ low: LoRA, isTied: Bool = false) { (self.low, self.isTied) = (low, isTied) }

  /// Those of LoRA, and whether the logits change.
  public var settings: [(name: String, value: JSON)] { low.settings + [("tied", .int(isTied ? 1 : 0))] }

  /// See `EmbeddingMethod`.
  public var reachesOutput: Bool { isTied }

  /// Checks the settings of LoRA.
  /// - Throws: as `LoRA.check`; `AdapterError.badStart` for a start from the weight, and for a module that is no
  ///   embedding.
  public func check(_ module: Module) throws {
    try low.check(module)
    guard module.kind == .embedding, !low.initialization.changesBase else {
      throw AdapterError.badStart(
        module: module.name, name: low.initialization.rawValue,
        reason: module.kind == .embedding ? "an embedding starts with A = 0" : "it is no embedding")
    }
  }

  /// A [rank, vocabulary] and B [width, rank], as PEFT has them.
  public func parameters(of module: Module) -> [AdapterParameter] {
    [
      AdapterParameter(
        EmbeddingLoRA.nameOfA, [low.rank, module.outFeatures], learningRateFactor: low.learningRateFactor),
      AdapterParameter(
        EmbeddingLoRA.nameOfB, [module.inFeatures, low.rank],
        learningRateFactor: low.learningRateFactor * low.learningRateRatio),
    ]
  }

  /// A to 0 and B to N(0, 1), as in PEFT.
  /// - Throws: `TensorError` when the device fails; nothing on the CPU.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.fill(tensors[0], 0)
    try tensors[1].backend.fillNormal(
      tensors[1], mean: 0, deviation: 1, stream: RandomStream(seed: seed, purpose: "lora_b", module: module.name))
  }

  /// The rows with scaling * A^T B^T added.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func embed(_ tensors: [Tensor], ids: [Int32], rows: Tensor, of module: Module) throws -> Tensor {
    let table = try packed(try transpose(tensors[0], 0, 1))
    let found = try embedding(table, ids: try Tensor(ids: ids, on: rows.backend), dtype: .f32)
    let change = try matmul(found, try transpose(tensors[1], 0, 1))
    return try binary(.add, rows, try binary(.multiply, change, try Tensor([Float(low.scaling)], on: rows.backend)))
  }

  /// A and B with their places changed.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func outputBranch(_ tensors: [Tensor], of module: Module, _ context: ForwardContext) throws -> LowRank {
    var branch = LowRank(
      a: try transpose(tensors[1], 0, 1), b: try transpose(tensors[0], 0, 1), scaling: Float(low.scaling))
    if context.isTraining, low.dropout > 0 {
      branch.dropout = Float(low.dropout)
      branch.stream = context.randomStream("dropout", module: module.name)
    }
    return branch
  }

  /// W + scaling * A^T B^T, in f32.
  /// - Throws: `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try weight.backend.matmul(
      tensors[0], transposeA: true, tensors[1], transposeB: true, alpha: Float(low.scaling), beta: 1, into: weight,
      precision: .f32)
  }

  /// One product of the width, and with `isTied` one of the vocabulary.
  public func work(of module: Module) -> AdapterWork {
    let (rank, width) = (Double(low.rank), Double(module.inFeatures))
    return AdapterWork(
      products: 2 * rank * (width + (isTied ? width + Double(module.outFeatures) : 0)),
      masked: isTied && low.dropout > 0 ? width : 0, passed: rank + 2 * width)
  }

  /// That of LoRA.
  /// - Throws: as `LoRA.configuration`.
  public static func configuration(_ adapters: [(module: String, method: EmbeddingLoRA)]) throws -> [(String, JSON)] {
    try LoRA.configuration(adapters.map { ($0.module, $0.method.low) })
  }

  /// That of LoRA, which makes this of the embedding.
  /// - Throws: as `LoRA.reader`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    try LoRA.reader(configuration, path: path)
  }
}
