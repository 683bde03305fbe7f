extension ModelConfig {
  /// The config of a published model by its hub name, for plans without its files: sizes, RoPE and ties as in the
  /// published config.json, no token ids. The organisation may be left out; case does not matter. `-Instruct` and
  /// `-chat` variants share the sizes of their base model. nil for names outside the table.
  public static func known(name: String) -> ModelConfig? {
    var key = name.lowercased()
    if let slash = key.lastIndex(of: "/") { key = String(key[key.index(after: slash)...]) }
    for suffix in ["-hf", "-instruct", "-chat", "-base"] where key.hasSuffix(suffix) {
      key = String(key.dropLast(suffix.count))
    }
    key = key.replacing("-chat-", with: "-").replacing("-instruct-", with: "-")
    if key.hasPrefix("meta-llama-") { key = String(key.dropFirst(5)) }
    return table[key].map { $0.config }
  }

  /// Names that `known` accepts, sorted.
  public static var knownNames: [String] { table.keys.sorted() }

  private struct Row {
    let type: ModelType
    /// hidden, intermediate, layers, heads, key-value heads, head dimension
    let sizes: (Int, Int, Int, Int, Int, Int)
    let vocabulary: Int
    let positions: Int
    var theta: Double = 10000
    var epsilon: Double = 1e-5
    var ties = false
    var scaling: RopeScaling = .none
    var window: Int?

    var config: ModelConfig {
      var config = ModelConfig(
        modelType: type, hiddenSize: sizes.0, intermediateSize: sizes.1, layerCount: sizes.2, headCount: sizes.3,
        keyValueHeadCount: sizes.4, headDimension: sizes.5, vocabularySize: vocabulary, maxPositions: positions)
      config.normEpsilon = epsilon
      config.ropeTheta = theta
      config.tiesEmbeddings = ties
      config.ropeScaling = scaling
      config.slidingWindow = window
      config.storedType = type == .llama && vocabulary == 32000 ? "float16" : "bfloat16"
      return config
    }
  }

  private static let table: [String: Row] = {
    var rows: [String: Row] = [:]
    func llama(_ names: [String], _ s: (Int, Int, Int, Int, Int, Int), positions: Int, epsilon: Double) {
      for name in names {
        rows[name] = Row(type: .llama, sizes: s, vocabulary: 32000, positions: positions, epsilon: epsilon)
      }
    }
    llama(["llama-7b"], (4096, 11008, 32, 32, 32, 128), positions: 2048, epsilon: 1e-6)
    llama(["llama-13b"], (5120, 13824, 40, 40, 40, 128), positions: 2048, epsilon: 1e-6)
    llama(["llama-30b", "llama-33b"], (6656, 17920, 60, 52, 52, 128), positions: 2048, epsilon: 1e-6)
    llama(["llama-65b"], (8192, 22016, 80, 64, 64, 128), positions: 2048, epsilon: 1e-5)
    llama(["llama-2-7b"], (4096, 11008, 32, 32, 32, 128), positions: 4096, epsilon: 1e-5)
    llama(["llama-2-13b"], (5120, 13824, 40, 40, 40, 128), positions: 4096, epsilon: 1e-5)
    llama(["llama-2-70b"], (8192, 28672, 80, 64, 8, 128), positions: 4096, epsilon: 1e-5)
    llama(["tinyllama-1.1b-v1.0"], (2048, 5632, 22, 32, 4, 64), positions: 2048, epsilon: 1e-5)

    func scaling(_ factor: Double) -> RopeScaling {
      .llama3(factor: factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192)
    }
    func llama3(_ names: [String], _ s: (Int, Int, Int, Int, Int, Int), factor: Double?, ties: Bool = false) {
      for name in names {
        rows[name] = Row(
          type: .llama, sizes: s, vocabulary: 128256, positions: factor == nil ? 8192 : 131072, theta: 500000,
          ties: ties, scaling: factor.map { scaling($0) } ?? .none)
      }
    }
    llama3(["llama-3-8b"], (4096, 14336, 32, 32, 8, 128), factor: nil)
    llama3(["llama-3-70b"], (8192, 28672, 80, 64, 8, 128), factor: nil)
    llama3(["llama-3.1-8b"], (4096, 14336, 32, 32, 8, 128), factor: 8)
    llama3(["llama-3.1-70b", "llama-3.3-70b"], (8192, 28672, 80, 64, 8, 128), factor: 8)
    llama3(["llama-3.2-1b"], (2048, 8192, 16, 32, 8, 64), factor: 32, ties: true)
    llama3(["llama-3.2-3b"], (3072, 8192, 28, 24, 8, 128), factor: 32, ties: true)

    for (version, vocabulary, theta, window) in [
      ("v0.1", 32000, 1e4, 4096 as Int?), ("v0.2", 32000, 1e6, nil), ("v0.3", 32768, 1e6, nil),
    ] {
      rows["mistral-7b-" + version] = Row(
        type: .mistral, sizes: (4096, 14336, 32, 32, 8, 128), vocabulary: vocabulary, positions: 32768, theta: theta,
        window: window)
    }

    func qwen(
      _ type: ModelType, _ names: [String], _ s: (Int, Int, Int, Int, Int, Int), _ vocabulary: Int,
      positions: Int, ties: Bool
    ) {
      for name in names {
        rows[name] = Row(
          type: type, sizes: s, vocabulary: vocabulary, positions: positions, theta: 1e6, epsilon: 1e-6, ties: ties)
      }
    }
    func both(_ size: String) -> [String] { ["qwen2-" + size, "qwen2.5-" + size] }
    qwen(.qwen2, both("0.5b"), (896, 4864, 24, 14, 2, 64), 151936, positions: 32768, ties: true)
    qwen(.qwen2, both("1.5b"), (1536, 8960, 28, 12, 2, 128), 151936, positions: 32768, ties: true)
    qwen(.qwen2, ["qwen2.5-3b"], (2048, 11008, 36, 16, 2, 128), 151936, positions: 32768, ties: true)
    qwen(.qwen2, both("7b"), (3584, 18944, 28, 28, 4, 128), 152064, positions: 32768, ties: false)
    qwen(.qwen2, ["qwen2.5-14b"], (5120, 13824, 48, 40, 8, 128), 152064, positions: 32768, ties: false)
    qwen(.qwen2, ["qwen2.5-32b"], (5120, 27648, 64, 40, 8, 128), 152064, positions: 32768, ties: false)
    qwen(.qwen2, both("72b"), (8192, 29568, 80, 64, 8, 128), 152064, positions: 32768, ties: false)
    qwen(.qwen3, ["qwen3-0.6b"], (1024, 3072, 28, 16, 8, 128), 151936, positions: 40960, ties: true)
    qwen(.qwen3, ["qwen3-1.7b"], (2048, 6144, 28, 16, 8, 128), 151936, positions: 40960, ties: true)
    qwen(.qwen3, ["qwen3-4b"], (2560, 9728, 36, 32, 8, 128), 151936, positions: 40960, ties: true)
    qwen(.qwen3, ["qwen3-8b"], (4096, 12288, 36, 32, 8, 128), 151936, positions: 40960, ties: false)
    qwen(.qwen3, ["qwen3-14b"], (5120, 17408, 40, 40, 8, 128), 151936, positions: 40960, ties: false)
    qwen(.qwen3, ["qwen3-32b"], (5120, 25600, 64, 64, 8, 128), 151936, positions: 40960, ties: false)

    for (family, positions, theta, largeTheta) in [("smollm-", 2048, 1e4, 1e4), ("smollm2-", 8192, 1e5, 1.3e5)] {
      rows[family + "135m"] = Row(
        type: .llama, sizes: (576, 1536, 30, 9, 3, 64), vocabulary: 49152, positions: positions, theta: theta,
        ties: true)
      rows[family + "360m"] = Row(
        type: .llama, sizes: (960, 2560, 32, 15, 5, 64), vocabulary: 49152, positions: positions, theta: theta,
        ties: true)
      rows[family + "1.7b"] = Row(
        type: .llama, sizes: (2048, 8192, 24, 32, 32, 64), vocabulary: 49152, positions: positions,
        theta: largeTheta, ties: true)
    }
    return rows
  }()
}
