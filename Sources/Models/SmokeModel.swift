import Tensors
import Tokenizers

extension ModelLoader {
  /// A small random model of the architecture that `path` names, so that a recipe runs anywhere in seconds.
  ///
  /// The vocabulary is that of the tokenizer found, or of `options.smokeTokenizer` when the model's own files are
  /// absent.
  func smokeModel(_ location: ModelLocation?, _ path: String) throws -> LanguageModel {
    let full = try location?.spec()
    let own = try location?.tokenizer()
    let tokenizer = try own ?? options.smokeTokenizer.flatMap { try Tokenizer.find(directory: $0) }
    let small = full.map { $0.shrunk(vocabulary: tokenizer?.vocabularySize) } ?? .smoke(tokenizer?.vocabularySize)
    let model = try LanguageModel(
      random: small, name: path, seed: 0, options: options, trainsAllParameters: false, backend: backend)
    model.tokenizer = tokenizer
    return model
  }
}

extension DecoderSpec {
  /// A small Llama, for a path that leads nowhere.
  static func smoke(_ vocabulary: Int?) -> DecoderSpec {
    let sizes = Llama.smokeSizes
    return DecoderSpec(
      Llama.self, hiddenSize: sizes.hidden, intermediateSize: sizes.intermediate, layerCount: 2,
      headCount: sizes.heads, keyValueHeadCount: sizes.sharedHeads, headDimension: sizes.headDimension,
      vocabularySize: vocabulary ?? sizes.vocabulary, maxPositions: sizes.maxPositions)
  }

  /// The same decoder in its family's smoke sizes: at least two layers, one of each kind that the model has, and key
  /// heads shared where the model shares them. It has no token ids of its own.
  func shrunk(vocabulary: Int?) -> DecoderSpec {
    let sizes = Families.named(modelType)?.smokeSizes ?? SmokeSizes()
    var small = self
    var kinds: [Layer] = []
    for layer in layers where !kinds.contains(layer) { kinds.append(layer) }
    small.layers = kinds.count > 1 ? kinds : Array(repeating: kinds.first ?? Layer(), count: 2)
    small.hiddenSize = sizes.hidden
    // Gemma scales its embedding by the root of its width.
    if embeddingScale == Double(hiddenSize).squareRoot() {
      small.embeddingScale = Double(sizes.hidden).squareRoot()
    }
    small.intermediateSize = sizes.intermediate
    if let experts {
      small.experts?.count = min(experts.count, sizes.experts)
      small.experts?.perToken = min(experts.perToken, sizes.expertsPerToken)
      small.experts?.width = sizes.expertWidth
      if experts.sharedWidth != nil { small.experts?.sharedWidth = sizes.expertWidth }
    }
    if let deltaNet {
      let group = min(2, deltaNet.valueHeads / deltaNet.keyHeads)
      small.deltaNet = DeltaNetNumbers(
        keyHeads: sizes.sharedHeads, valueHeads: group * sizes.sharedHeads, keyDimension: sizes.headDimension,
        valueDimension: sizes.headDimension, taps: deltaNet.taps)
    }
    small.headCount = sizes.heads
    small.keyValueHeadCount = keyValueHeadCount == headCount ? sizes.heads : sizes.sharedHeads
    small.headDimension = sizes.headDimension
    small.vocabularySize = vocabulary ?? sizes.vocabulary
    small.maxPositions = sizes.maxPositions
    small.rope = rope.resized(from: headDimension, to: sizes.headDimension)
    for index in small.layers.indices {
      guard case .own(let own) = small.layers[index].rotation else { continue }
      small.layers[index].rotation = .own(own.resized(from: headDimension, to: sizes.headDimension))
    }
    (small.bosTokenID, small.eosTokenIDs, small.padTokenID) = (nil, [], nil)
    (small.storedType, small.quantizationConfig) = (nil, nil)
    return small
  }
}
