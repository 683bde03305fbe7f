import CPUBackend
import Formats
import Quantization
import Tensors
import Testing

@testable import Models

private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

@Suite struct ForwardHookTests {
  @Test func aHookSeesInputAndOutputAndChangesNothing() throws {
    let model = try load("llama3")
    let plain = try model.logits(ids).floats()
    let module = try #require(model.module("model.layers.0.self_attn.q_proj"))
    var seen: [(Tensor, Tensor)] = []
    let hook = module.addHook { input, output in
      seen.append((input, output))
      return nil
    }
    #expect(try model.logits(ids).floats() == plain)
    // The copy keeps the projection although rotation works over the original in place.
    let (x, y) = try #require(seen.first)
    let product = try Tensor(empty: y.shape, on: model.backend)
    try model.backend.matmul(
      x, transposeA: false, try #require(module.weight).converted(to: .f32), transposeB: true, alpha: 1, beta: 0,
      into: product, precision: .f32)
    #expect(relativeError(try y.floats(), try product.floats()) < 1e-5)
    #expect(seen.count == 1)
    hook.remove()
    hook.remove()
    _ = try model.logits(ids)
    #expect(seen.count == 1 && module.hooks.isEmpty)
  }

  @Test func everyKindOfModuleHasAHookPoint() throws {
    let model = try load("qwen3")
    var seen: Set<String> = []
    for module in model.modules {
      _ = module.addHook { _, _ in
        seen.insert(module.name)
        return nil
      }
    }
    let hooked = try model.loss(Batch([(ids, nil)]), isTraining: false).item()
    #expect(seen == Set(model.modules.map(\.name)))
    for module in model.modules { module.hooks.first?.remove() }
    #expect(abs(try model.loss(Batch([(ids, nil)]), isTraining: false).item() - hooked) < 1e-5)
  }

  /// A tied embedding is the output module too: its hook sees rows of the embedding once, not logits.
  @Test func aTiedEmbeddingIsSeenOnce() throws {
    let model = try load("tied")
    var shapes: [[Int]] = []
    _ = model.modules[0].addHook { _, output in
      shapes.append(output.shape)
      return nil
    }
    _ = try model.logits(ids)
    #expect(shapes == [[ids.count, model.spec.hiddenSize]])
  }

  @Test func aReturnedTensorReplacesTheOutput() throws {
    let model = try load("mistral")
    let plain = try model.logits(ids).floats()
    let module = try #require(model.module("model.layers.0.mlp.down_proj"))
    let same = module.addHook { _, output in try output.copied() }
    #expect(try model.logits(ids).floats() == plain)
    same.remove()
    let zero = module.addHook { _, output in try Tensor(full: output.shape, value: 0, on: output.backend) }
    let ablated = try model.logits(ids).floats()
    zero.remove()
    // The same as a layer whose down projection is zero.
    let weight = try #require(module.weight)
    module.weight = try Tensor(full: weight.shape, value: 0, on: model.backend)
    #expect(try model.logits(ids).floats() == ablated)
    #expect(relativeError(ablated, plain) > 1e-3)
    _ = module.addHook { _, output in try output.narrowed(0, 0..<1) }
    let error = #expect(throws: ModelError.self) { try model.logits(ids) }
    guard case .badReplacement(module.name, _, _) = error else {
      Issue.record("wrong error \(String(describing: error))")
      return
    }
  }

  /// Replacing an output by itself leaves the gradients of the weights before it.
  @Test func gradientsFlowThroughHooks() throws {
    let model = try load("mistral")
    let module = try #require(model.module("model.layers.0.mlp.down_proj"))
    module.weight?.requiresGradient = true
    func gradient() throws -> [Float] {
      module.weight?.gradient = nil
      try model.loss(Batch([(ids, nil)])).backward()
      return try #require(module.weight?.gradient).floats()
    }
    let plain = try gradient()
    let hook = module.addHook { _, output in output }
    #expect(try gradient() == plain)
    hook.remove()
  }
}

@Suite struct ExplorationTests {
  @Test func tokenLossesAddUpToTheLoss() throws {
    let model = try load("llama3")
    let losses = try model.tokenLosses(ids).floats()
    #expect(losses.count == ids.count - 1)
    let mean = losses.reduce(0.0) { $0 + Double($1) } / Double(losses.count)
    #expect(abs(mean - (try model.loss(Batch([(ids, nil)]), isTraining: false).item())) < 1e-5)
    #expect(throws: ModelError.tooFewTokens(operation: "token_losses", minimum: 2)) { try model.tokenLosses([3]) }
  }

  /// The maps times V are what the attention kernel hands to the output projection: grouped heads, normed heads,
  /// windows.
  @Test(arguments: ["llama3", "qwen3", "mistral", "qwen2"])
  func mapsTimesValuesEqualTheKernel(name: String) throws {
    let model = try load(name)
    let spec = model.spec
    for layer in 0..<spec.layerCount {
      var values: Tensor?
      var mixed: Tensor?
      let prefix = "model.layers.\(layer).self_attn."
      let hooks = [
        try #require(model.module(prefix + "v_proj")).addHook { _, output in
          values = output
          return nil
        },
        try #require(model.module(prefix + "o_proj")).addHook { input, _ in
          mixed = input
          return nil
        },
      ]
      let maps = try model.attentionMaps(ids, layer: layer).floats()
      for hook in hooks { hook.remove() }
      let (v, wanted) = (try #require(values).floats(), try #require(mixed).floats())
      let (count, heads, width) = (ids.count, spec.headCount, spec.headDimension)
      let kvWidth = spec.keyValueHeadCount * width
      var got = [Float](repeating: 0, count: wanted.count)
      for head in 0..<heads {
        let column = head / (heads / spec.keyValueHeadCount) * width
        for query in 0..<count {
          let row = maps[(head * count + query) * count..<(head * count + query + 1) * count]
          #expect(abs(row.reduce(0, +) - 1) < 1e-5)
          for (key, weight) in row.enumerated() {
            if key > query { #expect(weight == 0) }
            let target = (query * heads + head) * width
            for d in 0..<width { got[target + d] += weight * v[key * kvWidth + column + d] }
          }
        }
      }
      #expect(relativeError(got, wanted) < 1e-5, "\(name) layer \(layer)")
    }
    #expect(throws: ModelError.noSuchLayer(layer: 99, count: spec.layerCount)) {
      try model.attentionMaps(ids, layer: 99)
    }
    #expect(model.modules.filter { !$0.hooks.isEmpty }.isEmpty)
  }

  @Test func quantizationErrorIsTheDistanceFromTheFile() throws {
    let dense = try load("base")
    let model = try load("base", LoadOptions(quantization: .nf4, doubleQuantization: true, computeType: .f32))
    let reports = try model.quantizationReports()
    #expect(reports.map(\.module) == model.modules.filter { $0.quantized != nil }.map(\.name))
    for report in reports {
      let original = try #require(dense.module(report.module)?.weight).floats()
      let decoded = try #require(model.module(report.module)?.quantized).dequantized().floats()
      let differences = zip(original, decoded).map { Double($0) - Double($1) }
      let rmse = (differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)).squareRoot()
      #expect(abs(report.rmse - rmse) < 1e-6 * rmse)
      #expect(abs(report.maximum - (differences.map(\.magnitude).max() ?? 0)) < 1e-6)
      #expect((0.05...0.15).contains(report.relative), "\(report)")
      #expect((4.1...4.6).contains(report.bitsPerParameter), "\(report)")
    }
    let name = "model.layers.0.mlp.up_proj"
    #expect(try model.quantizationReports(of: [name]).map(\.module) == [name])
  }

  @Test func withoutOriginalsThereIsNoError() throws {
    for (name, problem) in [
      ("nf4", .storedQuantized(module: "model.layers.0.self_attn.q_proj")), ("base", .nothingQuantized),
    ] as [(String, ModelError.OriginalProblem)] {
      let model = try load(name)
      #expect(throws: ModelError.noOriginalWeights(path: model.path, problem: problem)) {
        try model.quantizationReports()
      }
    }
    let model = try load("base", LoadOptions(quantization: .fp4, computeType: .f32))
    #expect(throws: ModelError.noOriginalWeights(path: model.path, problem: .notQuantized(module: "model.norm"))) {
      try model.quantizationReports(of: ["model.norm"])
    }
    #expect(throws: ModelError.unknownModule(name: "nothing", nearest: [])) {
      try model.quantizationReports(of: ["nothing"])
    }
  }
}
