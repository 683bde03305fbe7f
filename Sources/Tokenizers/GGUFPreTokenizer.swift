import Formats

/// A pre-tokenizer of byte-level BPE that llama.cpp knows by a name, `tokenizer.ggml.pre`, as tokenizer.json has it.
struct GGUFPreTokenizer {
  /// The name that is written.
  let name: String
  /// Other names of the same, which are read.
  var aliases: [String] = []
  let steps: [JSON]
  /// Whether a word that is a token is taken before merges are.
  var ignoresMerges = false
  /// Whether the tokenizer brings texts to NFC first; llama.cpp does not.
  var isComposed = false
  /// Whether texts begin with BOS where the file does not say it.
  var addsBOS = false

  var names: [String] { [name] + aliases }

  private static let gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
  private static let llama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  private static let qwen2 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    + "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  private static let qwen35 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
    + " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  private static let gpt4o = cased(contractions: "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", numbers: "\\p{N}{1,3}")
  private static let tekken = cased(contractions: "", numbers: "\\p{N}")

  /// Words whose capitals begin them.
  private static func cased(contractions: String, numbers: String) -> String {
    let upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
    let first = "[^\\r\\n\\p{L}\\p{N}]?"
    return "\(first)\(upper)*\(lower)+\(contractions)|\(first)\(upper)+\(lower)*\(contractions)|\(numbers)|"
      + " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  }

  private static let digits: [JSON] = [["type": "Digits", "individual_digits": true], TokenizerSpec.byteLevel]
  /// Bytes in GPT-2's letters without its splits.
  private static let plain: JSON = [
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
  ]

  static let all: [GGUFPreTokenizer] = [
    GGUFPreTokenizer(name: "gpt-2", steps: [TokenizerSpec.byteLevel]),
    // OLMo's and GPT-NeoX's.
    GGUFPreTokenizer(name: "olmo", steps: [TokenizerSpec.byteLevel], isComposed: true),
    GGUFPreTokenizer(name: "smollm", aliases: ["refact", "starcoder"], steps: digits),
    GGUFPreTokenizer(name: "command-r", steps: digits, isComposed: true),
    GGUFPreTokenizer(
      name: "llama-bpe", aliases: ["llama3", "llama-v3", "falcon3"], steps: [TokenizerSpec.split(llama3), plain],
      ignoresMerges: true, addsBOS: true),
    GGUFPreTokenizer(name: "dbrx", aliases: ["smaug-bpe"], steps: [TokenizerSpec.split(llama3), plain]),
    GGUFPreTokenizer(
      name: "qwen2", aliases: ["deepseek-r1-qwen"], steps: [TokenizerSpec.split(qwen2), plain], isComposed: true),
    GGUFPreTokenizer(name: "qwen35", steps: [TokenizerSpec.split(qwen35), plain], isComposed: true),
    GGUFPreTokenizer(name: "gpt-4o", steps: [TokenizerSpec.split(gpt4o), plain]),
    GGUFPreTokenizer(
      name: "tekken", steps: [TokenizerSpec.split(tekken), plain], ignoresMerges: true, addsBOS: true),
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
