import QLoRA
import Testing

/// One process with several parts; several processes are in RecipeTests/RanksTests.
@Suite struct GradientSumTests {
  private let backend = CPUBackend(threadCount: 1)

  private func parameter(_ count: Int) throws -> Tensor {
    try Tensor(full: [count], value: 0, dtype: .f32, on: backend)
  }

  /// Numbers whose sum depends on the order.
  private func value(_ part: Int, _ element: Int) -> Float {
    Float((part * 7919 + element * 104_729) % 9973 - 5000) * (part % 2 == 0 ? 1e-3 : 1e4)
  }

  private func give(_ tensor: Tensor, _ part: Int) throws {
    tensor.gradient = try Tensor((0..<tensor.elementCount).map { value(part, $0) }, shape: tensor.shape, on: backend)
  }

  @Test(arguments: [2, 3, 8]) func partsAreJoinedPairwise(parts: Int) throws {
    let (first, second) = (try parameter(5), try parameter(33))
    let sum = try GradientSum([first, second], parts: parts)
    let shares = try sum.begin(2 * parts + 1)
    #expect(shares.count == parts && shares.first?.lowerBound == 0 && shares.last?.upperBound == 2 * parts + 1)
    #expect(zip(shares, shares.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound && !$0.isEmpty })
    for part in 0..<parts {
      try give(first, part)
      try give(second, part)
      try sum.add(loss: Double(part))
      #expect(first.gradient == nil || parts == 1)
    }
    let (loss, isStopping) = try sum.finish(isStopping: true)
    #expect(loss == Double(parts * (parts - 1) / 2) && isStopping)
    for tensor in [first, second] {
      let wanted = (0..<tensor.elementCount).map { element in
        var sums = (0..<parts).map { value($0, element) }
        while sums.count > 1 {
          sums = stride(from: 0, to: sums.count, by: 2).map { $0 + 1 < sums.count ? sums[$0] + sums[$0 + 1] : sums[$0] }
        }
        return sums[0].bitPattern
      }
      let gradient = try #require(tensor.gradient)
      #expect(gradient.shape == tensor.shape)
      #expect(try gradient.floats().map(\.bitPattern) == wanted)
    }
  }

  /// A gradient that some parts lack counts as zeros there; one that all lack stays absent.
  @Test func missingGradientsStayMissing() throws {
    let (given, never) = (try parameter(3), try parameter(4))
    let sum = try GradientSum([given, never], parts: 4)
    _ = try sum.begin(4)
    for part in 0..<4 {
      if part == 2 { try give(given, part) }
      try sum.add(loss: 0)
    }
    _ = try sum.finish()
    #expect(try given.gradient?.floats() == (0..<3).map { value(2, $0) })
    #expect(never.gradient == nil)
  }

  /// The bits of a program without parts: nothing is touched.
  @Test func onePartLeavesTheGradientsWhereTheyAre() throws {
    let tensor = try parameter(3)
    let sum = try GradientSum([tensor])
    #expect(try sum.begin(5) == [0..<5])
    try give(tensor, 1)
    let before = tensor.gradient
    try sum.add(loss: 0.1)
    #expect(try sum.finish().loss == 0.1)
    #expect(tensor.gradient === before)
  }

  @Test func aStepThatDoesNotFitIsAnError() throws {
    let sum = try GradientSum([try parameter(1)], parts: 2)
    #expect(throws: TrainingError.fewMicroBatches(1, parts: 2)) { try sum.begin(1) }
    _ = try sum.begin(2)
    #expect(throws: TrainingError.partCount(added: 0, of: 2)) { try sum.finish() }
    try sum.add(loss: 0)
    // An unfinished step leaves no trace in the next.
    _ = try sum.begin(2)
    for _ in 0..<2 { try sum.add(loss: 1) }
    #expect(throws: TrainingError.partCount(added: 3, of: 2)) { try sum.add(loss: 1) }
    #expect(try sum.finish().loss == 2)
    #expect(throws: TrainingError.noParameters) { try GradientSum([]) }
  }

  @Test func ranksMustDivideTheParts() {
    let text = "\(TrainingError.partsOfRanks(parts: 12, ranks: 5))"
    #expect(text.contains("5 processes") && text.contains("1, 2, 3, 4, 6, 12 can"))
  }
}
