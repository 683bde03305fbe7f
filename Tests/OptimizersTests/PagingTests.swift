import CPUBackend
import Foundation
import Tensors
import Testing

@testable import Optimizers

/// The layout of pages, and what becomes of them when the spill file fails.
@Suite(.serialized) struct PagingTests {
  private let backend = CPUBackend(threadCount: 1)
  private let counts = [9000, 700, 20_000, 5000, 4096]

  @Test(arguments: [(OptimizerRule.adamW, 32), (.adamW, 8), (.lion, 8), (.sgd, 32)])
  func pagesAreFullAndHoldEachElementOnce(rule: OptimizerRule, bits: Int) throws {
    let options = OptimizerOptions(rule, learningRate: 1, bits: bits)
    let pages = OptimizerState.pages(counts, options, limit: 2048)
    let largest = try #require(pages.map(\.byteCount).max())
    for page in pages.dropLast() {
      // At most a block of the largest kind of state and the rounding of its arrays are left over.
      #expect(largest - page.byteCount < 256 * 8 + 128)
      for segment in page.segments { #expect(segment.range.lowerBound % 256 == 0) }
    }
    for (parameter, count) in counts.enumerated() {
      let ranges = pages.flatMap(\.segments).filter { $0.parameter == parameter }.map(\.range)
      #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == count)
      for (left, right) in zip(ranges, ranges.dropFirst()) { #expect(left.upperBound == right.lowerBound) }
    }
    for page in pages {
      let arrays = page.segments.flatMap(\.slices).map { $0.offset..<$0.offset + $0.byteCount }
      for (left, right) in zip(arrays, arrays.dropFirst()) { #expect(left.upperBound <= right.lowerBound) }
      #expect(try #require(arrays.last).upperBound <= page.byteCount)
    }
  }

  private func parameters() throws -> [OptimizedParameter] {
    try counts.enumerated().map { index, count in
      let values = (0..<count).map { (i: Int) -> Float in Float((i * 37 + index) % 101) / 101 }
      return OptimizedParameter(name: "p\(index)", tensor: try Tensor(values, on: backend))
    }
  }

  private func giveGradients(_ parameters: [OptimizedParameter], step: Int) throws {
    for parameter in parameters {
      let values = (0..<parameter.tensor.elementCount).map { (i: Int) -> Float in
        Float((i * 13 + step * 29) % 89) / 89 - 0.5
      }
      parameter.tensor.gradient = try Tensor(values, on: backend)
    }
  }

  private func bits(_ parameters: [OptimizedParameter]) throws -> [[UInt32]] {
    try parameters.map { try $0.tensor.floats().map(\.bitPattern) }
  }

  /// Two optimizers, one of them paged within a tenth of its state after two steps, and the descriptor of its file.
  private func pair(bits: Int) throws -> (
    resident: (list: [OptimizedParameter], optimizer: Optimizer),
    paged: (list: [OptimizedParameter], optimizer: Optimizer),
    directory: String, descriptor: Int32
  ) {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    var options = OptimizerOptions(.adamW, learningRate: 0.01, bits: bits)
    let (left, right) = (try parameters(), try parameters())
    let resident = try Optimizer(left, options)
    (options.isPaged, options.budget, options.spillDirectory) = (true, resident.stateByteCount / 10, directory)
    let paged = try Optimizer(right, options)
    let descriptor = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").first {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?.hasPrefix(directory) ?? false
    }
    for step in 1...2 {
      try giveGradients(left, step: step)
      try giveGradients(right, step: step)
      try resident.step()
      try paged.step()
    }
    return ((left, resident), (right, paged), directory, try #require(descriptor.flatMap { Int32($0) }))
  }

  /// The file cannot be written for a while (its descriptor is one for reading only), at every step: the page that
  /// could not be written stays, and the step goes on where it stopped.
  @Test(arguments: [32, 8]) func aFailedWriteLosesNothing(width: Int) throws {
    let (resident, paged, directory, descriptor) = try pair(bits: width)
    let (original, readable) = (dup(descriptor), open("/proc/self/fd/\(descriptor)", O_RDONLY))
    let expected = TensorError.spillFailed(
      content: .optimizerState, path: directory, operation: .write, code: EBADF)
    for step in 3...5 {
      try giveGradients(resident.list, step: step)
      try giveGradients(paged.list, step: step)
      try resident.optimizer.step()
      dup2(readable, descriptor)
      for _ in 0..<2 { #expect(throws: expected) { try paged.optimizer.step() } }
      // Half a step is nothing to forget or to keep.
      #expect(throws: OptimizerError.unfinishedStep(step)) { try paged.optimizer.zeroGradients() }
      #expect(throws: OptimizerError.unfinishedStep(step)) { try paged.optimizer.checkpointItems() }
      dup2(original, descriptor)
      // What the last try had under way may still fail.
      do { try paged.optimizer.step() } catch TensorError.spillFailed { try paged.optimizer.step() }
      #expect(paged.optimizer.stepCount == step)
    }
    #expect(try bits(resident.list) == bits(paged.list))
    for descriptor in [original, readable] { close(descriptor) }
    try FileManager.default.removeItem(atPath: directory)
  }

  /// A file that was cut short and has grown again since: zeros where pages were.
  @Test func holesInTheFileAreNoState() throws {
    let (_, paged, directory, descriptor) = try pair(bits: 8)
    var info = stat()
    fstat(descriptor, &info)
    ftruncate(descriptor, 0)
    ftruncate(descriptor, info.st_size)
    try giveGradients(paged.list, step: 3)
    #expect {
      try paged.optimizer.step()
    } throws: {
      guard case TensorError.spillDamaged(.optimizerState, directory, _) = $0 else { return false }
      return true
    }
    try FileManager.default.removeItem(atPath: directory)
  }

  /// What a limit on the memory of the process does not allow is told before the first step.
  @Test func aBudgetThatDoesNotFitTheLimitIsToldWhenTheOptimizerIsMade() throws {
    let list = try parameters()
    var options = OptimizerOptions(.adamW, learningRate: 0.01, isPaged: true)
    (options.budget, options.spillDirectory) = (200_000, FileManager.default.temporaryDirectory.path)
    backend.memory.limit = backend.residentByteCount + 100_000
    #expect(throws: TensorError.self) { try Optimizer(list, options) }
    backend.memory.limit = backend.residentByteCount + 400_000
    let optimizer = try Optimizer(list, options)
    let held = backend.memory.live(.optimizer)
    #expect(held > 150_000 && held <= 220_000 && optimizer.statistics?.residentPages == 0)
  }

  /// Budget kept, half of the state through the file each step and hardly a wait, once the pages have found their
  /// places.
  @Test func onlyWhatDoesNotFitGoesThroughTheFile() throws {
    let list = try (0..<8).map {
      OptimizedParameter(name: "p\($0)", tensor: try Tensor(full: [40_000], value: 1, on: backend))
    }
    var options = OptimizerOptions(.adamW, learningRate: 0.01, isPaged: true)
    options.budget = 8 * 40_000 * 8 / 2
    options.spillDirectory = FileManager.default.temporaryDirectory.path
    let optimizer = try Optimizer(list, options)
    for parameter in list { parameter.tensor.gradient = try Tensor(full: [40_000], value: 0.1, on: backend) }
    for _ in 0..<2 { try optimizer.step() }
    let before = try #require(optimizer.statistics)
    for _ in 0..<4 { try optimizer.step() }
    let after = try #require(optimizer.statistics)
    #expect(after.residentBytes <= options.budget)
    let moved = (after.bytesRead - before.bytesRead) / 4
    #expect(moved >= options.budget && moved <= options.budget * 5 / 4, "\(moved) of \(options.budget)")
    // A busy machine reads none of these small pages in time; with pauses the first of a step is there.
    var now = after
    for _ in 0..<100 where now.prefetched == before.prefetched {
      usleep(10_000)
      try optimizer.step()
      now = try #require(optimizer.statistics)
    }
    #expect(now.prefetched > before.prefetched)
  }
}
