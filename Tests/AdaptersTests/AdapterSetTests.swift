import Autograd
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
private let ids: [Int32] = (0..<16).map { (i: Int) -> Int32 in Int32(37 * i % 1280) }

/// models/tiny with the adapters first (layers 1 and 3) and second (1 and 2) of make_combined.py; second is in use.
private func load(trainable: Bool = false) throws -> LanguageModel {
  let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load(root.appendingPathComponent("models/tiny").path)
  try PEFTFiles.load("\(fixtures)/first", into: model, set: "first")
  try PEFTFiles.load("\(fixtures)/second", into: model, trainable: trainable, set: "second")
  return model
}

private func golden(_ name: String) throws -> [Float] {
  let file = try SafetensorsFile(path: "\(fixtures)/combined.safetensors")
  return try file.bytes(of: name).withMemoryRebound(to: Float.self) { Array($0) }
}

/// The logits of the first 64 tokens of the vocabulary, as they are stored.
private func logits(_ model: LanguageModel) throws -> [Float] {
  let all = try model.logits(ids).floats()
  return ids.indices.flatMap { all[$0 * 1280..<$0 * 1280 + 64] }
}

func difference(_ a: [Float], _ b: [Float]) -> Float {
  a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
}

@Suite struct AdapterSetTests {
  @Test(arguments: [["first"], ["second"], ["first", "second"], ["second", "first"]])
  func logitsAreThoseOfPEFT(names: [String]) throws {
    let model = try load()
    try model.useAdapters(names)
    let wanted = try golden("logits.\(names.count == 2 ? "both" : names[0])")
    #expect(try difference(logits(model), wanted) < 2e-5)
  }

  @Test(arguments: [
    ("cat", AdapterCombination(.cat)), ("linear", AdapterCombination(.linear)),
    ("ties", AdapterCombination(.ties, density: 0.5)),
    ("ties_frequency", AdapterCombination(.ties, density: 0.5, countsSigns: true)),
    ("magnitude_prune", AdapterCombination(.magnitudePrune, density: 0.3)),
  ])
  func combinationsAreThoseOfPEFT(name: String, how: AdapterCombination) throws {
    let model = try load()
    #expect(try model.combineAdapters([("first", 0.75), ("second", -0.4)], into: name, how) == 3)
    #expect(model.namesInUse == [name] && model.trainableParameters.isEmpty)
    for (module, adapter) in try model.adapterSet(name).members {
      #expect(adapter.lowRank?.scaling == 1)
      let (rank, key) = (adapter.tensors[0].shape[0], "\(name).base_model.model.\(module.name)")
      #expect(rank == (name == "cat" && module.layer == 1 ? 4 : 2))
      let a = try golden("\(key).lora_A.weight")
      // PEFT fills up to the largest rank with zeros.
      #expect(try difference(adapter.tensors[0].floats(), Array(a[..<(rank * 192)])) < 1e-6)
      let b = try golden("\(key).lora_B.weight")
      let columns = b.count / 96
      let kept = (0..<96).flatMap { b[$0 * columns..<$0 * columns + rank] }
      #expect(try difference(adapter.tensors[1].floats(), kept) < 1e-6)
    }
    if name == "cat" { #expect(try difference(logits(model), golden("logits.cat")) < 2e-5) }
  }

  /// Equal products: the signs of singular vectors are free.
  @Test(arguments: [
    ("svd", AdapterCombination(.svd)), ("svd_3", AdapterCombination(.svd, rank: 3)),
    ("ties_svd", AdapterCombination(.tiesSVD, density: 0.5)),
    ("magnitude_prune_svd", AdapterCombination(.magnitudePruneSVD, density: 0.3)),
  ])
  func decompositionsAreThoseOfPEFT(name: String, how: AdapterCombination) throws {
    let model = try load()
    #expect(try model.combineAdapters([("first", 0.75), ("second", -0.4)], into: name, how) == 3)
    let rank = how.rank ?? 2
    func product(_ a: [Float], _ b: [Float]) -> [Float] {
      (0..<96 * 192).map { index in
        (0..<rank).reduce(Float(0)) { $0 + b[index / 192 * rank + $1] * a[$1 * 192 + index % 192] }
      }
    }
    for (module, adapter) in try model.adapterSet(name).members {
      let key = "\(name).base_model.model.\(module.name)"
      let wanted = try product(golden("\(key).lora_A.weight"), golden("\(key).lora_B.weight"))
      let got = try product(adapter.tensors[0].floats(), adapter.tensors[1].floats())
      #expect(wanted.contains { abs($0) > 0.05 })
      #expect(difference(got, wanted) < 2e-5, "\(module.name)")
    }
    if name == "svd" { #expect(try difference(logits(model), golden("logits.svd")) < 2e-5) }
  }

  @Test func drawnElementsAreKeptAsOftenAsAskedFor() throws {
    let model = try load()
    let half = AdapterCombination(.dareLinear, density: 0.5, seed: 3)
    try model.combineAdapters([("first", 1)], into: "half", half)
    try model.combineAdapters([("first", 1)], into: "again", half)
    let member = try #require(try model.adapterSet("half").members.first)
    let again = try #require(try model.adapterSet("again").members.first)
    let before = try model.adapterSet("first").members[0].adapter.tensors[0].floats()
    let after = try member.adapter.tensors[0].floats()
    #expect(try again.adapter.tensors[0].floats() == after)
    let kept = after.filter { $0 != 0 }.count
    #expect((150...234).contains(kept), "\(kept) of 384")
    let root = Float(1.5).squareRoot()
    #expect(zip(before, after).allSatisfy { $1 == 0 || abs($0 * 2 * root - $1) < 1e-6 })
  }

  @Test func whatIsInUseIsTrainedSavedAndGivenBack() throws {
    let model = try load(trainable: true)
    #expect(model.trainableParameters.map(\.name).first == "second:model.layers.1.self_attn.k_proj.lora_A.weight")
    let second = try logits(model)
    try model.withAdapters(["first"]) {
      #expect(model.trainableParameters.isEmpty)
      let first = try logits(model)
      #expect(try difference(first, golden("logits.first")) < 2e-5)
    }
    #expect(try logits(model) == second)
    #expect(throws: CancellationError.self) { try model.withAdapters([]) { throw CancellationError() } }
    #expect(model.namesInUse == ["second"])

    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try model.withAdapters(["first"]) { try PEFTFiles.save(model, directory: folder) }
    #expect(
      try Set(SafetensorsFile(path: folder + "/adapter_model.safetensors").entries.map(\.name))
        == Set(SafetensorsFile(path: fixtures + "/first/adapter_model.safetensors").entries.map(\.name)))
    #expect(model.namesInUse == ["second"] && model.adapterSets.map(\.name) == ["first", "second"])

    #expect(try model.removeAdapters("second") == 2)
    #expect(model.namesInUse.isEmpty && model.adapters.isEmpty)
    try model.useAdapters(["first"])
    #expect(model.adapters.count == 2)
  }

  @Test func mistakesAreNamedAndChangeNothing() throws {
    let model = try load()
    func refused(_ expected: AdapterError, _ body: () throws -> Void) {
      #expect(throws: expected) { try body() }
      #expect(model.namesInUse == ["second"] && model.adapterSets.count == 2)
    }
    refused(.unknownSet(name: "third", known: ["first", "second"])) { try model.useAdapters(["first", "third"]) }
    refused(.repeatedSet(name: "first")) { try model.useAdapters(["first", "first"]) }
    refused(.othersWouldBeLeft(names: ["first"])) { try model.mergeAdapters() }
    refused(.repeatedSet(name: "first")) { try model.combineAdapters([("second", 1)], into: "first", .init(.cat)) }
    refused(.nothingSelected) { try model.combineAdapters([], into: "none", .init(.cat)) }
    refused(.alreadyAttached(module: "model.layers.1.self_attn.k_proj", set: "first")) {
      try PEFTFiles.load("\(fixtures)/second", into: model, set: "first")
    }
    try model.useAdapters(["first", "second"])
    #expect(throws: AdapterError.severalInUse(names: ["first", "second"])) {
      try PEFTFiles.write(model, into: NSTemporaryDirectory())
    }
  }

  @Test func gradientsOfOneDoNotDependOnItsPlace() throws {
    let model = try load(trainable: true)
    let batch = try Batch([(ids, nil)])
    func gradients(_ names: [String], checkpointing: Bool = false, switching: Bool = false) throws -> [[Float]] {
      try model.useAdapters(names)
      model.checkpointing = checkpointing
      let loss = try model.loss(batch)
      if switching { try model.useAdapters(["first"]) }
      try loss.backward()
      try model.useAdapters(names)
      return try model.trainableParameters.map { parameter in
        defer { parameter.tensor.gradient = nil }
        return try #require(parameter.tensor.gradient).floats()
      }
    }
    let first = try gradients(["second", "first"])
    for (a, b) in zip(first, try gradients(["first", "second"])) { #expect(difference(a, b) < 1e-6) }
    // A pass that is computed again has the adapters with which it was computed.
    #expect(try gradients(["second", "first"], checkpointing: true, switching: true) == first)
    // Not the gradients of second alone.
    #expect(zip(first, try gradients(["second"])).contains { difference($0, $1) > 1e-4 })
  }

  @Test func mergedSetsComputeWhatTheyDidTogether() throws {
    let model = try load()
    try model.useAdapters(["first", "second"])
    let before = try logits(model)
    try model.mergeAdapters()
    #expect(model.adapterSets.isEmpty)
    #expect(try difference(logits(model), before) < 2e-5)
  }
}
