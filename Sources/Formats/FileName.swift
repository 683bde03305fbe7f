/// Names of the files of a model and an adapter, as transformers and PEFT write them.
package enum FileName {
  package static let config = "config.json"
  package static let generationConfig = "generation_config.json"
  package static let weights = "model.safetensors"
  /// Says which of several files holds a tensor.
  package static let weightIndex = "model.safetensors.index.json"
  /// Of an adapter; mlx-lm has the same name.
  package static let adapterConfig = "adapter_config.json"
  package static let adapterWeights = "adapter_model.safetensors"
  package static let tokenizer = "tokenizer.json"
  package static let tokenizerConfig = "tokenizer_config.json"
  package static let sentencePiece = "tokenizer.model"
  package static let specialTokens = "special_tokens_map.json"
  package static let addedTokens = "added_tokens.json"
  package static let chatTemplate = "chat_template.jinja"
  /// Holds NAME.jinja for each chat template beside the default one.
  package static let templateFolder = "additional_chat_templates"
}
