import CPUBackend
import Foundation
import Tensors
import Testing

@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path

/// Numbers that a Swift program gives out of their range are errors with the name, the value and the range.
@Suite struct NumberTests {
  private func model() throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 1), options: LoadOptions()).load("\(fixtures)/tied")
  }

  private func text(_ body: () throws -> Any) -> String {
    do {
      return "no error: \(try body())"
    } catch { return "\(error)" }
  }

  @Test(arguments: [
    (SamplingOptions(temperature: .nan), "generate: temperature is nan, expected a number of at least 0"),
    (SamplingOptions(temperature: -1), "generate: temperature is -1.0, expected a number of at least 0"),
    (SamplingOptions(temperature: .infinity), "generate: temperature is inf, expected a finite number of at least 0"),
    (SamplingOptions(topK: -1), "generate: top_k is -1, expected at least 0"),
    (SamplingOptions(topP: 1.1), "generate: top_p is 1.1, expected a number in [0, 1]"),
    (SamplingOptions(topP: .nan), "generate: top_p is nan, expected a number in [0, 1]"),
  ]) func sampling(options: SamplingOptions, expected: String) throws {
    #expect(text { try Sampler(options) } == expected)
    let model = try model()
    #expect(text { try model.generate([1], GenerationOptions(maxTokens: 1, sampling: options)) } == expected)
  }

  @Test func drawingFromNothingIsAnError() throws {
    var sampler = try Sampler(SamplingOptions(temperature: 1))
    #expect(throws: ModelError.self) { try sampler.next(UnsafeBufferPointer(start: nil, count: 0)) }
  }

  @Test func countsOfAModel() throws {
    let model = try model()
    let batch = try Batch([([1, 2, 3, 4], nil)])
    let cases: [(String, () throws -> Any)] = [
      ("loss: denominator is 0, expected at least 1", { try model.loss(batch, denominator: 0) }),
      (
        "generate: max_new_tokens is -1, expected at least 0",
        { try model.generate([1], GenerationOptions(maxTokens: -1)) }
      ),
      (
        "generate: vocabularyLimit is 0, expected at least 1",
        { try model.generate([1], GenerationOptions(maxTokens: 1, vocabularyLimit: 0)) }
      ),
      (
        "batch: step is -9223372036854775808, expected 0 to 4294967295",
        { try MaskNumber(step: .min, microBatch: .max) }
      ),
      (
        "batch: micro is 9223372036854775807, expected 0 to 1073741823", { try MaskNumber(step: 1, microBatch: .max) }
      ),
      (
        "micro_batches: size is 0, expected at least 1",
        { try Samples(on: model.backend).microBatches([Int](), size: 0, step: 1) }
      ),
      ("windows: length is 1, expected at least 2", { try Samples(on: model.backend).windows(1) }),
    ]
    for (expected, body) in cases { #expect(text(body) == expected) }
    #expect(try MaskNumber(step: MaskNumber.steps.upperBound, microBatch: MaskNumber.microBatches.upperBound).value > 0)
    #expect(try Samples(on: model.backend).microBatches([Int](), size: .max, step: 1).isEmpty)
    model.checkpointing = true
    for interval in [0, -1, Int.min] {
      model.checkpointInterval = interval
      #expect(text { try model.loss(batch) } == "forward: checkpointInterval is \(interval), expected at least 1")
    }
    model.checkpointInterval = .max
    #expect(try model.loss(batch).item() > 0)
  }

  /// Losses that name no masks have their own, however many there are; a step never shares them.
  @Test func unnamedMasksAreThoseOfNoStep() throws {
    let unnamed = Set((1...20_000).map { MaskNumber(unnamed: $0).value })
    #expect(unnamed.count == 20_000 && unnamed.allSatisfy { $0 < 0 })
    #expect(try MaskNumber(step: 0, microBatch: 0).value > 0)
  }
}
