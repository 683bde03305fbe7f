import Formats

/// Qwen2 and Qwen2.5 (Yang et al. 2024): q, k and v have biases; layers from `max_window_layers` on may have a window.
package enum Qwen2: DecoderFamily {
  package static let modelType = "qwen2"
  package static let className = "Qwen2ForCausalLM"
  package static let ownKeys = windowKeys
  package static let defaults = ConfigDefaults(
    keyValueHeadCount: 32, maxPositions: 32768, bosTokenID: nil, eosTokenIDs: [])
  static let windowKeys: [String: FieldDecision] = [
    "use_sliding_window": .honoured, "max_window_layers": .honoured, "sliding_window": .nullable,
  ]

  package static let modules: LayerModules = {
    var modules = LayerModules()
    modules.setBiases(queryKeyValue: true)
    return modules
  }()

  package static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    try readWindows(fields, into: &spec)
  }

  package static func write(_ spec: DecoderSpec, into json: inout JSONObject) { writeWindows(spec, into: &json) }

  /// `use_sliding_window` and what goes with it, as Qwen3 has it too.
  static func readWindows(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {
    let uses = try fields.bool("use_sliding_window") ?? false
    let first = try fields.integer("max_window_layers") ?? 28
    // null is no window, also where use_sliding_window is true.
    let window = fields.json["sliding_window"] == nil ? 4096 : try fields.integer("sliding_window")
    guard uses else { return }
    let sliding = try fields.slidingLayers(count: spec.layerCount)
    for index in spec.layers.indices {
      spec.layers[index].window = sliding?[index] ?? (index >= first) ? window : nil
    }
  }

  static func writeWindows(_ spec: DecoderSpec, into json: inout JSONObject) {
    let windowed = spec.layers.map { $0.window != nil }
    json["sliding_window"] = spec.layers.lazy.compactMap(\.window).first.map { .int($0) } ?? .null
    json["use_sliding_window"] = .bool(windowed.contains(true))
    json["max_window_layers"] = .int(windowed.firstIndex(of: true) ?? spec.layerCount)
    if windowed.contains(true) {
      json["layer_types"] = .array(windowed.map { .string($0 ? "sliding_attention" : "full_attention") })
    }
  }

  package static let published: [String: JSON] = {
    var table: [String: JSON] = [:]
    func add(
      _ names: [String], _ s: (Int, Int, Int, Int, Int, Int), _ vocabulary: Int, ties: Bool, positions: Int = 32768,
      theta: Double = 1e6
    ) {
      for name in names {
        table[name] = sizes(
          s, vocabulary: vocabulary, positions: positions,
          ["rope_theta": .number(theta), "tie_word_embeddings": .bool(ties)])
      }
    }
    func both(_ size: String) -> [String] { ["qwen2-" + size] + half(size) }
    func half(_ size: String) -> [String] { ["qwen2.5-" + size] + (size == "72b" ? [] : ["qwen2.5-coder-" + size]) }
    add(both("0.5b"), (896, 4864, 24, 14, 2, 64), 151936, ties: true)
    add(both("1.5b"), (1536, 8960, 28, 12, 2, 128), 151936, ties: true)
    add(half("3b"), (2048, 11008, 36, 16, 2, 128), 151936, ties: true)
    add(both("7b"), (3584, 18944, 28, 28, 4, 128), 152064, ties: false)
    add(half("14b"), (5120, 13824, 48, 40, 8, 128), 152064, ties: false)
    add(half("32b"), (5120, 27648, 64, 40, 8, 128), 152064, ties: false)
    add(both("72b"), (8192, 29568, 80, 64, 8, 128), 152064, ties: false)
    let small = (1536, 8960, 28, 12, 2, 128), middle = (3584, 18944, 28, 28, 4, 128)
    add(["qwen2.5-math-1.5b"], small, 151936, ties: true, positions: 4096, theta: 1e4)
    add(["qwen2.5-math-7b"], middle, 152064, ties: false, positions: 4096, theta: 1e4)
    add(["qwen2.5-math-72b"], (8192, 29568, 80, 64, 8, 128), 152064, ties: false, positions: 4096, theta: 1e4)
    let distilled = "deepseek-r1-distill-qwen-"
    add([distilled + "1.5b"], small, 151936, ties: false, positions: 131072, theta: 1e4)
    add([distilled + "7b"], middle, 152064, ties: false, positions: 131072, theta: 1e4)
    add([distilled + "14b"], (5120, 13824, 48, 40, 8, 128), 152064, ties: false, positions: 131072)
    add([distilled + "32b"], (5120, 27648, 64, 40, 8, 128), 152064, ties: false, positions: 131072)
    add(["qwq-32b"], (5120, 27648, 64, 40, 8, 128), 152064, ties: false, positions: 40960)
    return table
  }()
}
