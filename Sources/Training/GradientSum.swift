import Ranks
import Tensors

/// The gradients of a step, summed in a shape that the number of its parts alone decides, so that any number of
/// processes gets the same bits.
///
/// The micro-batches of a step are cut into `parts` runs of neighbours. Each run is summed in sequence, and the sums
/// are joined pairwise (`SumTree`). A process computes neighbouring parts; each owns a range of the elements and
/// finishes their sum for all.
public final class GradientSum {
  /// Runs of micro-batches that are summed in sequence.
  public let parts: Int
  /// Who computes the parts.
  public let ranks: Ranks
  private let parameters: [Tensor]
  /// Where the gradient of each parameter lies in a block, at a multiple of 16 elements. Behind them is an element for
  /// each that says whether there is one.
  private let starts: [Int]
  private let elementCount: Int
  private let tree: SumTree
  private var sums: [(node: SumTree.Node, value: Tensor)] = []
  private var losses: [Double] = []

  /// A sum over the gradients of `parameters`, all of one device.
  /// - Parameters:
  ///   - parameters: what is trained.
  ///   - parts: nil for as many as there are ranks.
  ///   - ranks: the processes that share the steps.
  /// - Throws: `TrainingError.partsOfRanks` where the ranks do not divide the parts; `.noParameters`.
  public init(_ parameters: [Tensor], parts: Int? = nil, ranks: Ranks = .alone) throws(TrainingError) {
    let parts = parts ?? ranks.size
    guard parts > 0, parts % ranks.size == 0 else { throw .partsOfRanks(parts: parts, ranks: ranks.size) }
    guard !parameters.isEmpty else { throw .noParameters }
    (self.parts, self.ranks, self.parameters, tree) = (parts, ranks, parameters, SumTree(count: parts))
    (starts, elementCount) = Self.layout(parameters.map(\.elementCount))
  }

  /// Where gradients of so many elements lie in a block, and its elements.
  private static func layout(_ counts: [Int]) -> (starts: [Int], elementCount: Int) {
    var (starts, end): ([Int], Int) = ([], 0)
    for count in counts {
      starts.append(end)
      end += (count + 15) / 16 * 16
    }
    return (starts, end + counts.count)
  }

  /// What a sum holds besides the gradients, in elements: a block, how many of them there are at most while a process
  /// computes the last of its parts, and what comes from other processes at the end.
  static func planned(_ counts: [Int], parts: Int, ranks: Int) -> (block: Int, held: Int, room: Int) {
    let (block, own) = (layout(counts).elementCount, parts / ranks)
    let tree = SumTree(count: parts)
    var (sums, held): ([(node: SumTree.Node, value: Void)], Int) = ([], 0)
    for index in 0..<own {
      held = max(held, sums.count)
      tree.append(.init(level: 0, index: index), (), to: &sums) { _, _ in }
    }
    return (block, held, ranks > 1 ? (parts / own - 1) * sums.count * ((block + ranks - 1) / ranks) : 0)
  }

  private var ownParts: Range<Int> { share(of: ranks.rank) }

  private func share(of rank: Int) -> Range<Int> {
    let count = parts / ranks.size
    return rank * count..<(rank + 1) * count
  }

  /// Begins a step; what an unfinished one has added is forgotten.
  /// - Returns: what this process computes: for each of its parts the micro-batches, from 0. None is empty.
  /// - Throws: `TrainingError.fewMicroBatches` for fewer micro-batches than parts.
  public func begin(_ microBatches: Int) throws(TrainingError) -> [Range<Int>] {
    guard microBatches >= parts else { throw .fewMicroBatches(microBatches, parts: parts) }
    (sums, losses) = ([], [])
    return ownParts.map { microBatches * $0 / parts..<microBatches * ($0 + 1) / parts }
  }

  /// Takes the gradients of a part that is computed. With one part they stay where they are.
  /// - Parameter loss: the sum of the part's losses.
  /// - Throws: `TrainingError.partCount` for more parts than there are; `TensorError.outOfMemory`; what the device
  ///   reports.
  public func add(loss: Double) throws {
    let index = ownParts.lowerBound + losses.count
    guard ownParts.contains(index) else {
      throw TrainingError.partCount(added: losses.count + 1, of: ownParts.count)
    }
    losses.append(loss)
    guard parts > 1 else { return }
    try tree.append(.init(level: 0, index: index), try takeGradients(), to: &sums, add: Self.add)
  }

  /// Joins the parts of all processes. Every parameter then has the gradient of the whole step.
  /// - Parameter isStopping: whether this process was told to stop.
  /// - Returns: the loss of the step, and whether any process was told to stop.
  /// - Throws: `TrainingError.partCount` before all parts are added; `RankError` where another process fails or does
  ///   something else; `TensorError.outOfMemory`.
  public func finish(isStopping: Bool = false) throws -> (loss: Double, isStopping: Bool) {
    guard losses.count == ownParts.count else {
      throw TrainingError.partCount(added: losses.count, of: ownParts.count)
    }
    defer { (sums, losses) = ([], []) }
    let all = try ranks.gather(losses + [isStopping ? 1 : 0], at: "step")
    // In the order of the parts; alone with one part there is nothing to add.
    let values = all.flatMap { $0.dropLast() }
    let loss = values.dropFirst().reduce(values[0], +)
    if parts > 1 {
      if ranks.size > 1 { try joinAll() }
      try giveGradients(sums[0].value)
    }
    return (loss, all.contains { $0.last != 0 })
  }

  private static func add(_ left: Tensor, _ right: Tensor) throws -> Tensor {
    try left.backend.accumulate(right, scale: 1, into: left, scale: 1)
    return left
  }
}

// MARK: Blocks

extension GradientSum {
  private func slot(_ number: Int, in block: Tensor) throws -> Tensor {
    try block.narrowed(0, starts[number]..<starts[number] + parameters[number].elementCount)
  }

  private func marks(in block: Tensor) throws -> Tensor {
    try block.narrowed(0, elementCount - parameters.count..<elementCount)
  }

  /// Moves the gradients into a block; one that is missing counts as zeros.
  private func takeGradients() throws -> Tensor {
    let block = try Tensor(
      empty: [elementCount], dtype: .f32, category: .gradients, on: parameters[0].backend)
    try block.backend.zero(block)
    var marks = [Float](repeating: 0, count: parameters.count)
    for (number, parameter) in parameters.enumerated() {
      guard let gradient = parameter.gradient else { continue }
      try block.backend.copy(
        try gradient.contiguous().viewed([gradient.elementCount]), into: try slot(number, in: block))
      marks[number] = 1
      parameter.gradient = nil
    }
    try marks.withUnsafeBytes { try self.marks(in: block).write($0) }
    return block
  }

  /// Gives each parameter its part of a block as its gradient.
  private func giveGradients(_ block: Tensor) throws {
    let marks = try marks(in: block).withHostBytes { Array($0.bindMemory(to: Float.self)) }
    for (number, parameter) in parameters.enumerated() {
      parameter.gradient = marks[number] == 0 ? nil : try slot(number, in: block).viewed(parameter.shape)
    }
  }

  // MARK: Between processes

  /// The elements whose sum a process finishes, at multiples of 16.
  private func elements(of rank: Int) -> Range<Int> {
    let blocks = (elementCount + 15) / 16
    func bound(_ rank: Int) -> Int { min(elementCount, blocks * rank / ranks.size * 16) }
    return bound(rank)..<bound(rank + 1)
  }

  /// Leaves the sum over all processes in `sums`: the partial sums of an element go to its owner, who joins them in the
  /// order of the parts, and the sums go to all.
  private func joinAll() throws {
    let (own, others) = (elements(of: ranks.rank), (0..<ranks.size).filter { $0 != ranks.rank })
    let nodes = (0..<ranks.size).map { tree.nodes(of: share(of: $0)) }
    // Room for what comes: the own elements of each partial sum of the others.
    let rows = others.reduce(0) { $0 + nodes[$1].count }
    let pitch = (own.count + 15) / 16 * 16
    let room = try Tensor(
      empty: [max(rows * pitch, 1)], dtype: .f32, category: .workspace, on: sums[0].value.backend)
    var starts = [Int](repeating: 0, count: ranks.size)
    for (rank, other) in zip(0..., others) where rank > 0 {
      starts[other] = starts[others[rank - 1]] + nodes[others[rank - 1]].count * pitch
    }
    try withBytes(sums.map(\.value)) { mine in
      try room.withMutableHostBytes { bytes in
        try ranks.exchange(
          sending: others.flatMap { other in
            mine.map { .init(other, Self.slice($0, elements(of: other))) }
          },
          receiving: others.flatMap { other in
            nodes[other].indices.map { row in
              let start = starts[other] + row * pitch
              return .init(other, Self.slice(bytes, start..<start + own.count))
            }
          })
      }
    }
    var joined: [(node: SumTree.Node, value: Tensor)] = []
    for rank in 0..<ranks.size {
      for (row, node) in nodes[rank].enumerated() {
        let start = starts[rank] + row * pitch
        let value =
          rank == ranks.rank
          ? try sums[row].value.narrowed(0, own) : try room.narrowed(0, start..<start + own.count)
        try tree.append(node, value, to: &joined, add: Self.add)
      }
    }
    let block = sums[0].value
    if ranks.rank > 0 { try block.backend.copy(joined[0].value, into: try block.narrowed(0, own)) }
    sums = [(joined[0].node, block)]
    try block.withMutableHostBytes { bytes in
      try ranks.exchange(
        sending: others.map { .init($0, UnsafeRawBufferPointer(Self.slice(bytes, own))) },
        receiving: others.map { .init($0, Self.slice(bytes, elements(of: $0))) })
    }
  }

  private static func slice(_ bytes: UnsafeRawBufferPointer, _ elements: Range<Int>) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[4 * elements.lowerBound..<4 * elements.upperBound])
  }

  private static func slice(
    _ bytes: UnsafeMutableRawBufferPointer, _ elements: Range<Int>
  ) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: bytes[4 * elements.lowerBound..<4 * elements.upperBound])
  }

  /// Lends the bytes of all tensors at once.
  private func withBytes(
    _ tensors: [Tensor], _ body: ([UnsafeRawBufferPointer]) throws -> Void, _ lent: [UnsafeRawBufferPointer] = []
  ) throws {
    guard let first = tensors.first else { return try body(lent) }
    try first.withHostBytes { try withBytes(Array(tensors.dropFirst()), body, lent + [$0]) }
  }
}
