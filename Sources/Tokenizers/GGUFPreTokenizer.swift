import Formats

/// A pre-tokenizer of byte-level BPE that llama.cpp knows by a name, `tokenizer.ggml.pre`, as tokenizer.json has it.
struct GGUFPreTokenizer {
  let name: String
  let steps: [JSON]
  /// Whether a word that is a token is taken before merges are.
  var ignoresMerges = false
  /// Whether the tokenizer brings texts to NFC first; llama.cpp does not.
  var isComposed = false

  private static let gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
  private static let llama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  private static let qwen2 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  /// Bytes in GPT-2's letters without its splits.
  private static let plain: JSON = [
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
  ]

  static let all: [GGUFPreTokenizer] = [
    GGUFPreTokenizer(name: "gpt-2", steps: [TokenizerSpec.byteLevel]),
    GGUFPreTokenizer(
      name: "smollm", steps: [["type": "Digits", "individual_digits": true], TokenizerSpec.byteLevel]),
    GGUFPreTokenizer(name: "llama-bpe", steps: [TokenizerSpec.split(llama3), plain], ignoresMerges: true),
    GGUFPreTokenizer(name: "dbrx", steps: [TokenizerSpec.split(llama3), plain]),
    GGUFPreTokenizer(name: "qwen2", steps: [TokenizerSpec.split(qwen2), plain], isComposed: true),
    // What llama.cpp falls back to; no tokenizers file looks like it.
    GGUFPreTokenizer(
      name: "default",
      steps: ["[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2, "\\p{N}+", "[0-9][0-9][0-9]"].map { TokenizerSpec.split($0) } + [plain]
    ),
  ]

  /// A step without what changes no tokens.
  static func significant(_ step: JSON) -> JSON {
    var members = step.object ?? JSONObject()
    if step["type"]?.string == "ByteLevel" {
      members["trim_offsets"] = nil
      if members["use_regex"] == nil { members["use_regex"] = true }
    }
    return .object(members)
  }
}
