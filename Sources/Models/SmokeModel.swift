import Formats
import Tensors
import Tokenizers

extension ModelLoader {
  /// A small random model of the architecture that `path` names, so that a recipe runs anywhere in seconds.
  ///
  /// Two layers of width 64 keep the ratio of heads; the vocabulary is that of the tokenizer found, or of
  /// `options.smokeTokenizer` when the model's own files are absent.
  func smokeModel(_ location: ModelLocation?, _ path: String) throws -> LanguageModel {
    let full = try location?.config()
    let own = try location?.tokenizer()
    let tokenizer = try own ?? options.smokeTokenizer.flatMap { try Tokenizer.find(directory: $0) }
    var small = ModelConfig(
      modelType: full?.modelType ?? .llama, hiddenSize: 64, intermediateSize: 128, layerCount: 2, headCount: 4,
      keyValueHeadCount: full.map { $0.keyValueHeadCount == $0.headCount ? 4 : 2 } ?? 2, headDimension: 16,
      vocabularySize: tokenizer?.vocabularySize ?? 256, maxPositions: 2048)
    if let full {
      small.normEpsilon = full.normEpsilon
      small.ropeTheta = full.ropeTheta
      small.ropeScaling = full.ropeScaling
      small.slidingWindow = full.slidingWindow
      small.tiesEmbeddings = full.tiesEmbeddings
      small.hasQKVBias = full.hasQKVBias
      small.hasOutputBias = full.hasOutputBias
      small.hasMLPBias = full.hasMLPBias
    }
    let model = try LanguageModel(
      random: small, path: path, seed: 0, options: options, trainsAllParameters: false, backend: backend)
    model.tokenizer = tokenizer
    return model
  }
}
