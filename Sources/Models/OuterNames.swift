/// What a family's modules outside the layers are called in a Hugging Face checkpoint, and the layers themselves.
package struct OuterNames: Sendable, Equatable {
  package var embedding = "model.embed_tokens"
  /// The number of a layer and the name of a module in it follow.
  package var layers = "model.layers."
  package var norm = "model.norm"
  package var output = "lm_head"

  /// As in Llama.
  package init() {}

  /// The whole name of a tensor whose file leaves out the first part of these names (`layers.0.…`), as a file that
  /// transformers saved from a model without its head does.
  func whole(_ tensor: String) -> String {
    guard let dot = embedding.firstIndex(of: ".") else { return tensor }
    let name = embedding[...dot] + tensor
    return [embedding + ".", layers, norm + "."].contains(where: name.hasPrefix) ? String(name) : tensor
  }

  /// The names of GGUF files beside these.
  package var inGGUF: [(gguf: String, huggingFace: String)] {
    [("token_embd", embedding), ("output_norm", norm), ("output", output)]
  }
}
