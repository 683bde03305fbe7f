/// The modules of a decoder, from its spec alone.
struct ModuleTree {
  let embedding: Module
  let layers: [DecoderLayer]
  let norm: Module
  /// What turns hidden states into logits: `lm_head`, or the embedding when tied.
  let output: Module
  /// All of them in checkpoint order.
  let modules: [Module]

  /// Stems of the tensors outside the layers.
  static let outerNames = [
    (gguf: "token_embd", huggingFace: "model.embed_tokens"), (gguf: "output_norm", huggingFace: "model.norm"),
    (gguf: "output", huggingFace: "lm_head"),
  ]

  init(_ spec: DecoderSpec) {
    let (hidden, vocabulary) = (spec.hiddenSize, spec.vocabularySize)
    embedding = Module(
      name: "model.embed_tokens", kind: .embedding, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    layers = (0..<spec.layerCount).map { DecoderLayer(spec, index: $0) }
    norm = Module(name: "model.norm", kind: .norm, layer: nil, inFeatures: hidden, outFeatures: 1)
    output =
      spec.tiesEmbeddings
      ? embedding
      : Module(name: "lm_head", kind: .linear, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    modules = [embedding] + layers.flatMap(\.modules) + [norm] + (spec.tiesEmbeddings ? [] : [output])
  }
}
