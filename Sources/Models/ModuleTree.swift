/// The modules of a decoder, from its spec alone.
struct ModuleTree {
  let embedding: Module
  let layers: [DecoderLayer]
  let norm: Module
  /// What turns hidden states into logits: the output matrix (`lm_head`), or the embedding when tied.
  let output: Module
  /// All of them in checkpoint order.
  let modules: [Module]

  init(_ spec: DecoderSpec) {
    let (hidden, vocabulary, names) = (spec.hiddenSize, spec.vocabularySize, spec.outerNames)
    embedding = Module(
      name: names.embedding, kind: .embedding, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    layers = (0..<spec.layerCount).map { DecoderLayer(spec, index: $0) }
    norm = Module(
      name: names.norm, kind: .norm, layer: nil, inFeatures: hidden, outFeatures: 1,
      hasBias: spec.normalization.form == .layer, initial: .constant(spec.normalization.form.neutralWeight))
    output =
      spec.tiesEmbeddings
      ? embedding
      : Module(name: names.output, kind: .linear, layer: nil, inFeatures: hidden, outFeatures: vocabulary)
    modules = [embedding] + layers.flatMap(\.modules) + [norm] + (spec.tiesEmbeddings ? [] : [output])
  }
}
