import Autograd
import CPUBackend
import Foundation
import Tensors
import Testing

@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path

/// Samples of 3 to 40 tokens whose second half is trained.
private func filled(_ count: Int, on backend: CPUBackend) throws -> (Samples, [[Int32]]) {
  let samples = Samples(on: backend)
  let rows = (0..<count).map { row in (0..<(3 + row % 38)).map { Int32(($0 * 7 + row * 13) % 128) } }
  for ids in rows { #expect(try samples.append(ids, trained: [ids.count / 2..<ids.count]) > 0) }
  return (samples, rows)
}

@Suite struct SamplesTests {
  @Test func tokensAreKeptInFourBytesOnTheBooks() throws {
    let backend = CPUBackend(threadCount: 1)
    let (samples, rows) = try filled(3000, on: backend)
    for (number, ids) in rows.enumerated() { #expect(try samples.ids(number) == ids) }
    let tokens = rows.reduce(0) { $0 + $1.count }
    #expect(samples.statistics.tokens == tokens && samples.lengths == rows.map(\.count))
    #expect(backend.memory.live(.samples) == samples.byteCount)
    #expect(samples.byteCount >= 4 * tokens && samples.byteCount < 10 * tokens)
    #expect(throws: ModelError.noSuchSample(number: 3000, count: 3000)) { try samples.ids(3000) }
    #expect(throws: ModelError.noSuchSample(number: -1, count: 3000)) { try samples.selecting([0, -1]) }
  }

  @Test func theFirstTokenIsNoTarget() throws {
    let samples = Samples(on: CPUBackend(threadCount: 1))
    #expect(try samples.append([5, 6, 7, 8], trained: [0..<2, 3..<9], dropped: 2) == 2)
    #expect(try samples.append([5, 6], trained: [0..<1]) == 0)
    #expect(try samples.append([], trained: [0..<1]) == 0)
    #expect(samples.count == 1)
    #expect(try samples.labels(0) == [5, 6, -100, 8])
    #expect(samples.statistics == Samples.Statistics(tokens: 4, trained: 2, longest: 4, truncated: 1))
    // What the samples count is what the batch trains.
    let batch = try samples.batch([0, 0])
    #expect(batch.targets == [6, -100, 8, -100, 6, -100, 8, -100] && batch.trainedTokenCount == 4)
    #expect(batch.segments == [0, 4, 8] && batch.positions == [0, 1, 2, 3, 0, 1, 2, 3])
  }

  @Test func rangesThatOverlapAreRefused() throws {
    let samples = Samples(on: CPUBackend(threadCount: 1))
    for (first, second) in [(0..<3, 2..<4), (2..<4, 0..<2)] {
      #expect(throws: ModelError.overlappingRanges(first: first, second: second)) {
        try samples.append([5, 6, 7, 8], trained: [first, second])
      }
    }
    #expect(samples.count == 0)
    #expect(try samples.append([5, 6, 7, 8], trained: [0..<2, 2..<4]) == 3)
  }

  @Test func windowsAreOneStreamAndSelectionsShareIt() throws {
    let backend = CPUBackend(threadCount: 1)
    let samples = Samples(on: backend)
    for ids in [[1, 2, 3, 4, 5], [6, 7, 8, 9]] as [[Int32]] { _ = try samples.append(ids, trained: [0..<ids.count]) }
    let windows = try samples.windows(4)
    #expect(try windows.indices.map { try windows.ids($0) } == [[1, 2, 3, 4], [5, 6, 7, 8]])  // one token is no sample
    let overlapping = try samples.windows(5, stride: 2)
    #expect(
      try overlapping.indices.map { try overlapping.labels($0) }
        == [[1, 2, 3, 4, 5], [-100, -100, -100, 6, 7], [-100, -100, -100, 8, 9]])
    #expect(throws: TensorError.self) { try samples.windows(5, stride: 6) }
    let before = backend.memory.live(.samples)
    let chosen = try windows.selecting([1, 0, 1])
    #expect(try chosen.indices.map { try chosen.ids($0)[0] } == [5, 1, 5])
    #expect(backend.memory.live(.samples) == before)
    #expect(try chosen.append([1, 2], trained: [0..<2]) == 1)
    #expect(chosen.count == 4 && windows.count == 2)
  }

  @Test func partsOfAStepAddUpToItsMean() throws {
    let backend = CPUBackend(threadCount: 2)
    let model = try ModelLoader(backend: backend, options: LoadOptions(computeType: .f32)).load("\(fixtures)/tied")
    let (samples, _) = try filled(7, on: backend)
    func loss(_ size: Int) throws -> Double {
      try samples.microBatches(samples.indices, size: size, step: 1).reduce(0) { try $0 + model.loss($1).item() }
    }
    let whole = try model.loss(try samples.batch(samples.indices), isTraining: false).item()
    for size in [1, 3, 7, 100] { #expect(abs(try loss(size) - whole) < 1e-5) }
  }

  /// The numbers of earlier versions up to 4,095 parts of a step; beyond, none collides.
  @Test func everyPartOfEveryStepHasMasksOfItsOwn() throws {
    #expect(try MaskNumber(step: 3, microBatch: 2).value == 3 * 4096 + 2 + 1)
    #expect(try MaskNumber(step: 9, microBatch: 4095).value == 9 * 4096 + 4095 + 1)
    var seen: Set<Int> = []
    for step in [1, 2, 3, 4096, 1 << 31] {
      for part in [1, 2, 4095, 4096, 4097, 8192, 8193, 1 << 24] {
        #expect(seen.insert(try MaskNumber(step: step, microBatch: part).value).inserted, "step \(step), part \(part)")
      }
    }
  }

  @Test func masksAreAnArgument() throws {
    let model = try ModelLoader(backend: CPUBackend(threadCount: 1), options: LoadOptions()).load("\(fixtures)/tied")
    let batch = try Batch([([1, 2, 3, 4], nil)])
    _ = try model.loss(batch, masks: try MaskNumber(step: 5, microBatch: 1))
    #expect(model.dropoutStep == 0)
    _ = try model.loss(batch)
    #expect(model.dropoutStep == 1)
  }
}

@Suite struct HeaderOnlyTests {
  /// A model without weights says so, whatever is asked of it.
  @Test func computesNothing() throws {
    let model = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(headerOnly: true)
    ).load("\(fixtures)/tied")
    #expect(throws: ModelError.headerOnly(operation: "generate")) { try model.generate([1], GenerationOptions()) }
    #expect(throws: ModelError.headerOnly(operation: "generate")) { try model.generateText([1], GenerationOptions()) }
    #expect(throws: ModelError.headerOnly(operation: "logits")) { try model.logits([1]) }
    #expect(throws: ModelError.headerOnly(operation: "loss")) { try model.loss(try Batch([([1, 2], nil)])) }
  }
}

@Suite struct StopTextTests {
  private let tiny = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("models/tiny").path

  @Test func theFirstStopEndsTheText() throws {
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(tiny)
    var options = GenerationOptions(maxTokens: 12)
    let whole = try model.generateText("In the morning, Mia", options)
    let words = whole.split(separator: " ").map(String.init)
    try #require(words.count >= 4)
    var drawn = 0
    options.onToken = { _ in
      drawn += 1
      return true
    }
    options.stopTexts = ["nowhere in it", words[3], words[1]]
    let text = try model.generateText("In the morning, Mia", options)
    #expect(text == whole.components(separatedBy: words[1])[0])
    #expect(drawn < 12, "generation went on after the stop")
  }
}
