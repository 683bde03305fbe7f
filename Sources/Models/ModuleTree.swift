import Formats

/// The modules of a decoder, from its configuration alone.
struct ModuleTree {
  let embedding: Module
  let layers: [DecoderLayer]
  let norm: Module
  /// What turns hidden states into logits: `lm_head`, or the embedding when tied.
  let output: Module
  /// All of them in checkpoint order.
  let modules: [Module]

  init(_ config: ModelConfig) {
    let (hidden, vocabulary) = (config.hiddenSize, config.vocabularySize)
    embedding = Module(
      name: "model.embed_tokens", kind: .embedding, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    layers = (0..<config.layerCount).map { DecoderLayer(config, index: $0) }
    norm = Module(name: "model.norm", kind: .norm, layer: nil, inFeatures: hidden, outFeatures: 1)
    output =
      config.tiesEmbeddings
      ? embedding
      : Module(name: "lm_head", kind: .linear, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    modules = [embedding] + layers.flatMap(\.modules) + [norm] + (config.tiesEmbeddings ? [] : [output])
  }
}
