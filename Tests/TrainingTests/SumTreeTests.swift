import Testing

@testable import Training

@Suite struct SumTreeTests {
  /// The sum in words, from the partial sums of `ranks` neighbours.
  private func sum(_ count: Int, ranks: Int) -> [String] {
    let tree = SumTree(count: count)
    func add(_ a: String, _ b: String) -> String { "(\(a)+\(b))" }
    var joined: [(node: SumTree.Node, value: String)] = []
    for rank in 0..<ranks {
      let range = count * rank / ranks..<count * (rank + 1) / ranks
      var own: [(node: SumTree.Node, value: String)] = []
      for index in range { tree.append(.init(level: 0, index: index), "\(index)", to: &own, add: add) }
      #expect(own.map(\.node) == tree.nodes(of: range))
      for (node, value) in own { tree.append(node, value, to: &joined, add: add) }
    }
    return joined.map(\.value)
  }

  @Test func neighboursAreJoinedPairwise() {
    #expect(sum(1, ranks: 1) == ["0"])
    #expect(sum(4, ranks: 1) == ["((0+1)+(2+3))"])
    #expect(sum(6, ranks: 1) == ["(((0+1)+(2+3))+(4+5))"])
    #expect(sum(5, ranks: 1) == ["(((0+1)+(2+3))+4)"])
  }

  /// Also where the part of a rank is no branch of the tree, as 3 of 6.
  @Test(arguments: [2, 3, 6, 8, 12, 30]) func theShapeIsThatOfOne(count: Int) {
    for ranks in 2...count where count % ranks == 0 { #expect(sum(count, ranks: ranks) == sum(count, ranks: 1)) }
  }

  @Test func aRankKeepsNoMoreThanItMust() {
    #expect(SumTree(count: 1024).nodes(of: 256..<512).count == 1)
    #expect(SumTree(count: 6).nodes(of: 3..<6).map(\.level) == [0, 2])
  }
}
