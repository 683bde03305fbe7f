import CPUBackend
import Formats
import Foundation
import Models
import Tensors
import Testing

@testable import Adapters

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()
private let fixtures = root.appendingPathComponent("Tests/Fixtures/adapters").path

/// models/tiny with the adapters two (rank 2, layers 1 and 3), three (rank 3 and rslora, 1 and 2) and other (rank 3, 1)
/// of make_combined_ranks.py.
private func load() throws -> LanguageModel {
  let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load(root.appendingPathComponent("models/tiny").path)
  for name in ["two", "three", "other"] { try PEFTFiles.load("\(fixtures)/ranks/\(name)", into: model, set: name) }
  return model
}

/// A combination by PEFT's name of it, with the options of make_combined_ranks.py.
private func combination(_ name: String) throws -> AdapterCombination {
  let word = name.replacing("_frequency", with: "").replacing("_1", with: "")
  let density = word.hasPrefix("ties") ? 0.5 : word.hasPrefix("magnitude") ? 0.3 : 1
  return AdapterCombination(
    try #require(AdapterCombination.Method(rawValue: word)), density: density,
    countsSigns: name.hasSuffix("_frequency"),
    rank: name.hasSuffix("_1") ? 1 : nil)
}

private let byFactors = [
  "linear", "ties", "ties_frequency", "magnitude_prune", "dare_linear", "dare_ties", "dare_ties_frequency",
]

/// Adapters of two ranks, alphas and scalings, combined by every method that PEFT has.
@Suite struct CombiningRanksTests {
  private let file: SafetensorsFile
  init() throws { file = try SafetensorsFile(path: "\(fixtures)/combined_ranks.safetensors") }

  private func golden(_ name: String) throws -> [Float] {
    try file.bytes(of: name).withMemoryRebound(to: Float.self) { Array($0) }
  }

  private func product(_ a: [Float], _ b: [Float]) -> [Float] {
    let rank = a.count / 192
    return (0..<96 * 192).map { index in
      (0..<rank).reduce(Float(0)) { $0 + b[index / 192 * rank + $1] * a[$1 * 192 + index % 192] }
    }
  }

  @Test(arguments: [
    "cat", "svd", "svd_1", "ties_svd", "ties_svd_frequency", "magnitude_prune_svd", "dare_linear_svd", "dare_ties_svd",
    "dare_ties_svd_frequency",
  ])
  func changesOfTwoRanksAreThoseOfPEFT(name: String) throws {
    let model = try load()
    #expect(try model.combineAdapters([("two", 0.75), ("three", -0.4)], into: name, combination(name)) == 3)
    for (module, adapter) in try model.adapterSet(name).members {
      #expect(adapter.lowRank?.scaling == 1)
      let ranks = ["cat": [1: 5, 2: 3, 3: 2], "svd_1": [1: 1, 2: 1, 3: 1]][name] ?? [1: 3, 2: 3, 3: 3]
      #expect(adapter.tensors[0].shape == [try #require(ranks[module.layer ?? 0]), 192])
      let key = "\(name).base_model.model.\(module.name)"
      let wanted = try product(golden("\(key).lora_A.weight"), golden("\(key).lora_B.weight"))
      let got = try product(adapter.tensors[0].floats(), adapter.tensors[1].floats())
      #expect(wanted.contains { abs($0) > 0.05 })
      #expect(difference(got, wanted) < 2e-5, "\(module.name)")
    }
  }

  @Test(arguments: byFactors)
  func factorsOfOneRankAreThoseOfPEFT(name: String) throws {
    let model = try load()
    #expect(try model.combineAdapters([("other", 0.75), ("three", -0.4)], into: name, combination(name)) == 2)
    for (module, adapter) in try model.adapterSet(name).members {
      let key = "\(name).base_model.model.\(module.name)"
      for (tensor, part) in zip(adapter.tensors, ["A", "B"]) {
        #expect(try difference(tensor.floats(), golden("\(key).lora_\(part).weight")) < 1e-6, "\(key) \(part)")
      }
    }
  }

  /// What adds the matrices cannot add those of two ranks, here as in PEFT.
  @Test func whatPEFTRefusesIsRefused() throws {
    #expect(file.metadata["refused"] == byFactors.joined(separator: ","))
    let error = AdapterError.unequalRanks(
      module: "model.layers.1.self_attn.k_proj", sets: ["two", "three"], ranks: [2, 3])
    for name in byFactors {
      let model = try load()
      #expect(throws: error) {
        try model.combineAdapters([("two", 0.75), ("three", -0.4)], into: name, combination(name))
      }
    }
    #expect(
      Set(AdapterCombination.Method.allCases.map(\.rawValue))
        == [
          "svd", "linear", "cat", "ties", "ties_svd", "dare_ties", "dare_linear", "dare_ties_svd", "dare_linear_svd",
          "magnitude_prune", "magnitude_prune_svd",
        ])
  }

  /// With elements drawn, dare_linear is the sum of what is left of each, and dare_ties what ties makes of it, whose
  /// arithmetic the others compare with PEFT. A weight of 0 shows what is left of the other adapter.
  @Test(arguments: [false, true])
  func drawnElementsAreMergedAsTheOthers(countsSigns: Bool) throws {
    let model = try load()
    let (weights, layer) = ([0.75, -0.4], "model.layers.1.self_attn.k_proj")
    func combined(_ weights: [Double], _ method: AdapterCombination.Method, _ name: String) throws -> [[Float]] {
      let how = AdapterCombination(method, density: 0.6, countsSigns: countsSigns, seed: 5)
      try model.combineAdapters([("other", weights[0]), ("three", weights[1])], into: name, how)
      let member = try #require(try model.adapterSet(name).members.first { $0.module.name == layer })
      return try member.adapter.tensors.map { try $0.floats() }
    }
    let left = try [
      combined([weights[0], 0], .dareLinear, "first"), combined([0, weights[1]], .dareLinear, "second"),
    ]
    let factors = [Float(0.75 * 2 / 3), Float(-0.4 * 5 / 3.0.squareRoot())]
    let (sum, elected) = try (combined(weights, .dareLinear, "sum"), combined(weights, .dareTies, "elected"))
    for matrix in 0..<2 {
      let parts = left.map { $0[matrix] }
      #expect(difference(zip(parts[0], parts[1]).map { $0 + $1 }, sum[matrix]) < 1e-6)
      #expect(parts.allSatisfy { (0.3...0.5).contains(Double($0.count { $0 == 0 }) / Double($0.count)) })
      // The factor of A has the sign of the weight, that of B has none; the votes are those before the factors.
      let roots = factors.map { ($0 < 0 && matrix == 0 ? -1 : 1) * $0.magnitude.squareRoot() }
      let wanted = sum[matrix].indices.map { index in
        let values = zip(parts, roots).map { $0[index] / $1 }
        let votes = values.reduce(0) { $0 + (countsSigns ? ($1 > 0 ? 1 : $1 < 0 ? -1 : 0) : $1) }
        let winners = values.indices.filter { votes >= 0 ? values[$0] > 0 : values[$0] < 0 }
        return winners.reduce(Float(0)) { $0 + parts[$1][index] } / Float(max(1, winners.count))
      }
      #expect(difference(wanted, elected[matrix]) < 1e-6)
    }
  }
}
