import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

@Suite struct SyntheticModelTests {
  private let spec = DecoderSpec(
    Llama.self, hiddenSize: 256, intermediateSize: 640, layerCount: 3, headCount: 4, keyValueHeadCount: 2,
    headDimension: 64, vocabularySize: 400, maxPositions: 128)

  private func withCheckpoint<R>(
    seed: UInt64 = 1, _ change: (inout SyntheticModel.Options) -> Void = { _ in }, _ body: (String) throws -> R
  ) throws -> R {
    let output = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: output) }
    var options = SyntheticModel.Options()
    change(&options)
    let backend = CPUBackend(threadCount: 1)
    let byteCount = try SyntheticModel(backend: backend, options: options, seed: seed)
      .write(spec, tokenizer: nil, to: output)
    #expect(try WeightSource(path: output).tensors.reduce(0) { $0 + $1.byteCount } == byteCount)
    // The largest matrix is the embedding table in bf16; never two layers at once.
    #expect(backend.memory.peak < 2 * 400 * 256 * 2, "\(backend.memory.peak)")
    return try body(output)
  }

  private func load(_ path: String, streams: Bool? = nil) throws -> LanguageModel {
    var options = LoadOptions()
    options.streams = streams
    return try ModelLoader(backend: CPUBackend(threadCount: 1), options: options).load(path)
  }

  @Test(arguments: [FourBitKind.nf4, .fp4], [true, false])
  func weightsHaveTheDeviationOfAFreshModel(kind: FourBitKind, double: Bool) throws {
    try withCheckpoint {
      $0.kind = kind
      $0.doubleQuantization = double
    } _: { path in
      let model = try load(path)
      for module in model.modules where module.kind != .norm {
        let values = try module.quantized?.dequantized().floats() ?? #require(module.weight).floats()
        let square = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(values.count)
        #expect((0.017...0.023).contains(square.squareRoot()), "\(module.name): \(square.squareRoot())")
        if let nested = module.quantized?.nested {
          #expect(try nested.absmax.floats().allSatisfy { $0 > 0 && $0 <= nested.offset / 8 }, "\(module.name)")
        }
      }
      let batch = try Batch([((0..<64).map { Int32($0 * 37 % 400) }, nil)])
      // log(400) for a model that knows nothing.
      let loss = try model.loss(batch, isTraining: false).item()
      #expect(abs(loss - 6) < 0.5, "\(loss)")
    }
  }

  @Test func theSeedDecidesAndShardsDoNot() throws {
    func logits(_ path: String) throws -> [Float] { try load(path, streams: true).logits([1, 2, 3]).floats() }
    let one = try withCheckpoint({ _ in }, logits)
    #expect(try withCheckpoint({ $0.shardByteCount = 200_000 }, logits) == one)
    #expect(try withCheckpoint(seed: 2, { _ in }, logits) != one)
    // Each module has weights of its own.
    try withCheckpoint { path in
      let matrices = try load(path).modules.filter { $0.role == "q_proj" }.compactMap {
        try $0.quantized?.codes.withHostBytes { Array($0) }
      }
      #expect(matrices.count == 3 && Set(matrices).count == 3)
    }
  }

  @Test func aDiskTooSmallIsToldBeforeAnythingIsWritten() throws {
    var large = spec
    (large.hiddenSize, large.intermediateSize) = (1 << 17, 1 << 19)
    large.layers = Array(repeating: spec.layers[0], count: 100)
    let output = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    #expect {
      try SyntheticModel(backend: CPUBackend(threadCount: 1), options: .init(), seed: 0)
        .write(large, tokenizer: nil, to: output)
    } throws: { error in
      guard case FormatError.diskTooSmall(output, let needed, _) = error else { return false }
      return needed > 1 << 40
    }
    #expect(!FileManager.default.fileExists(atPath: output))
  }
}
