import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let fixtures = SmolLM2.root.appendingPathComponent("Tests/Fixtures/ropes").path
private let names = [
  "default", "theta", "linear", "dynamic", "yarn", "yarn_attention", "yarn_mscale", "yarn_implied", "yarn_beside",
  "longrope", "longrope_factor", "longrope_attention", "llama3",
]
private let lengths = [1, 17, 300]

private func ids(_ count: Int) -> [Int32] {
  (0..<count).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 32) }
}

private func golden(_ file: String) throws -> JSON { try JSON.read(path: "\(fixtures)/\(file).json") }

private func rows(_ name: String) throws -> [JSON] {
  try #require(try golden("ropes")["cases"]?[name]?["rows"]?.array)
}

/// config.json of the tiny Llama with the members of a case.
private func config(_ name: String) throws -> JSON {
  let own = try #require(try golden("ropes")["cases"]?[name]?["config"]?.object)
  var json = try #require(try JSON.read(path: fixtures + "/rope_base/config.json").object)
  if own.count > 0 { json["rope_parameters"] = nil }
  for key in own.keys { json[key] = own[key] }
  return .object(json)
}

private func model(_ config: JSON) throws -> LanguageModel {
  try withFolder { folder in
    try FileManager.default.copyItem(
      atPath: fixtures + "/rope_base/model.safetensors", toPath: folder.path + "/model.safetensors")
    try config.text(.python).write(toFile: folder.path + "/config.json", atomically: true, encoding: .utf8)
    return try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      .load(folder.path)
  }
}

/// The largest difference in standard deviations of what is wanted.
private func deviation(_ values: [Float], _ wanted: [Float]) -> Float {
  let mean = wanted.reduce(0, +) / Float(wanted.count)
  let variance = wanted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(wanted.count)
  return zip(values, wanted).reduce(0) { max($0, abs($1.0 - $1.1)) } / variance.squareRoot()
}

/// Rotary embeddings against transformers (make_ropes.py).
@Suite struct RopeGoldenTests {
  @Test func everyStoredCaseIsTried() throws {
    #expect(try Set(#require(golden("ropes")["cases"]?.object).keys) == Set(names))
  }

  @Test(arguments: names) func frequenciesEqualTransformers(name: String) throws {
    let rope = try DecoderSpec(json: config(name), path: name).rope
    for row in try rows(name) {
      let length = try #require(row["length"]?.int)
      let wanted = try #require(row["frequencies"]?.array).compactMap(\.double)
      let found = rope.frequencies(headDimension: 16, length: length)
      #expect(found.count == wanted.count)
      for (a, b) in zip(found, wanted) { #expect(abs(Double(a) - b) <= 4e-7 * b, "\(length): \(a), not \(b)") }
      #expect(abs(Double(rope.attentionScale) - (row["scale"]?.double ?? 0)) < 1e-6)
    }
  }

  @Test(arguments: names) func logitsEqualTransformers(name: String) throws {
    let stored = try WeightSource(path: "\(fixtures)/\(name).safetensors")
    let model = try model(try config(name))
    // From long to short and back, since tables stay between passes.
    for length in lengths.reversed() + lengths {
      let error = deviation(try model.logits(ids(length)).floats(), try stored.read("logits_\(length)"))
      #expect(error < 1e-4, "\(length) tokens: \(error) standard deviations")
    }
  }

  /// Across the border of LongRoPE and in the range where each length has frequencies of its own.
  @Test(arguments: names) func cachedStepsEqualTheWholePass(name: String) throws {
    let model = try model(try config(name))
    let all = ids(205)
    let cache = try KeyValueCache(model, capacity: 3)
    _ = try model.step(Array(all[..<14]), cache: cache)
    for (start, end) in [(14, 15), (15, 17), (17, 99), (99, 100), (100, 101), (101, 102), (102, 200), (200, 205)] {
      let step = try model.step(Array(all[start..<end]), cache: cache).floats()
      let whole = try model.logits(Array(all[..<end])).floats()
      let error = deviation(step, Array(whole.suffix(32)))
      #expect(error < 1e-4 && cache.length == end, "\(end) tokens: \(error) standard deviations")
    }
  }

  /// Each sequence of a packed batch has the frequencies that it has alone.
  @Test(arguments: names) func packedEqualsSeparate(name: String) throws {
    let model = try model(try config(name))
    let sequences = [ids(150), ids(20), ids(110), ids(20), ids(150)]
    let packed = try model.loss(Batch(sequences.map { ($0, nil) })).item()
    var sum = 0.0, count = 0.0
    for sequence in sequences {
      let targets = Double(sequence.count - 1)
      sum += Double(try model.loss(Batch([(sequence, nil)])).item()) * targets
      count += targets
    }
    #expect(abs(Double(packed) - sum / count) < 1e-5 * sum / count)
  }

  @Test(arguments: names) func savedReadsBackEqual(name: String) throws {
    let spec = try DecoderSpec(json: config(name), path: name)
    #expect(try DecoderSpec(json: JSON.parse(spec.toJSON().text(.python)), path: name) == spec)
    let small = spec.shrunk(vocabulary: nil)
    #expect(try DecoderSpec(json: small.toJSON(), path: name).rope.theta == spec.rope.theta)
  }

  /// The first elements of a head turn, the others stay.
  @Test func aPartOfEachHeadTurns() throws {
    let stored = try golden("partial")
    func number(_ key: String) throws -> Int { try #require(stored[key]?.int) }
    func list(_ key: String) throws -> [Float] {
      try #require(stored[key]?.array).compactMap(\.double).map { Float($0) }
    }
    let (heads, width, count) = (try number("heads"), try number("width"), try number("rows"))
    var rope = Rope()
    rope.setWidth(try number("turning"), headDimension: width)
    #expect(rope.width(headDimension: width) == 12)
    var spec = try DecoderSpec(json: config("default"), path: "x")
    (spec.rope, spec.headDimension) = (rope, width)
    let backend = CPUBackend(threadCount: 1)
    let rotary = try RotaryEmbedding(spec, backend: backend)
    #expect(try rotary.reserve([count]) == [0])
    let table = rotary.tables[0]
    let x = try Tensor(list("before"), shape: [count, heads * width], on: backend)
    let places = try Tensor(ids: (0..<count).map { Int32($0) }, on: backend)
    func turn(inverse: Bool) throws {
      try backend.rope(
        x, heads: heads, headDim: width, cosine: table.cosine, sine: table.sine, positions: places, inverse: inverse)
    }
    try turn(inverse: false)
    for (a, b) in zip(try x.floats(), try list("after")) { #expect(abs(a - b) < 1e-6) }
    try turn(inverse: true)
    for (a, b) in zip(try x.floats(), try list("before")) { #expect(abs(a - b) < 1e-6) }
  }

  @Test func partsThatAreNoneAreRefused() throws {
    var rope = Rope()
    for factor in [0, -0.5, 1.5, 1e300, .infinity, .nan, 0.01, 0.2] {
      rope.partialFactor = factor
      #expect(throws: FormatError.self, "\(factor)") { try rope.validate(headDimension: 16, path: "x") }
    }
    rope.partialFactor = 0.25
    try rope.validate(headDimension: 16, path: "x")
    rope.scaling = .longrope(
      Rope.LongRoPE(shortFactors: [1, 1], longFactors: [1, 1], attentionFactor: 1, originalPositions: 8))
    try rope.validate(headDimension: 16, path: "x")
    #expect(throws: FormatError.self) { try rope.validate(headDimension: 32, path: "x") }
    rope.scaling = .yarn(Rope.YaRN(factor: 4, attentionFactor: 1, originalPositions: 8))
    rope.theta = 1
    #expect(throws: FormatError.self) { try rope.validate(headDimension: 16, path: "x") }
  }

  @Test func widthsSurviveTheirFraction() {
    for head in stride(from: 2, through: 512, by: 2) {
      for width in stride(from: 2, through: head, by: 2) {
        var rope = Rope()
        rope.setWidth(width, headDimension: head)
        #expect(rope.width(headDimension: head) == width && rope.partialFactor <= 1)
      }
    }
  }
}
