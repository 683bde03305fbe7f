import Tensors

/// A repository of the Hugging Face hub, a revision of it, and a file in it: `org/name`, `org/name@revision`, and with
/// files `hf://org/name@revision/file.gguf`, `hf://datasets/org/name/train.jsonl`.
public struct HubName: Sendable, Equatable {
  /// What kind of repository it is.
  public enum Kind: String, Sendable {
    /// Models, and data sets.
    case model, dataset
  }

  /// The kind of the repository.
  public var kind = Kind.model
  /// `organisation/name`; a few old repositories have a name alone.
  public var repository: String
  /// A branch, a tag or a commit.
  public var revision = "main"
  /// A file of the repository, `folder/name` for one in a folder; nil for what is needed of it.
  public var file: String?

  static let prefix = "hf://"

  /// Whether a text can be nothing but a name of the hub.
  package static func isMarked(_ text: String) -> Bool { text.hasPrefix(prefix) }

  /// Whether a text has the form of a model's name: two parts and perhaps a revision. Paths have it, too.
  package static func looksLikeModel(_ text: String) -> Bool {
    !text.hasPrefix(".") && !text.hasPrefix("/") && !text.hasSuffix("/")
      && (text.split(separator: "@").first?.split(separator: "/").count ?? 0) == 2
  }

  /// - Throws: `FormatError.badField` for a text that is no name.
  public init(_ text: String) throws(FormatError) {
    func bad(_ field: String, _ value: String, _ expected: String) -> FormatError {
      .badField(path: text, field: field, value: value, expected: expected)
    }
    let isMarked = HubName.isMarked(text)
    var parts = text.dropFirst(isMarked ? HubName.prefix.count : 0)
      .split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    if parts.count > (isMarked ? 1 : 2), parts[0] == "datasets" || parts[0] == "models" {
      kind = parts.removeFirst() == "datasets" ? .dataset : .model
    }
    // The revision stands behind the name; `org/name@refs/pr/1` would be a file, so that it is an option there.
    let count = parts.count > 1 && !parts[0].contains("@") ? 2 : 1
    let last = parts[count - 1].split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    if last.count == 2 {
      parts[count - 1] = String(last[0])
      revision = String(last[1])
    }
    repository = parts[..<count].joined(separator: "/")
    guard parts[..<count].allSatisfy(HubName.isPlain) else {
      throw bad("name", repository, "organisation/name")
    }
    if parts.count > count {
      guard isMarked || kind == .dataset else { throw bad("name", text, "organisation/name") }
      file = parts[count...].joined(separator: "/")
    }
    try check()
  }

  /// - Throws: `FormatError.badField` for a revision or a file that cannot be one.
  package func check() throws(FormatError) {
    guard revision.split(separator: "/", omittingEmptySubsequences: false).allSatisfy({ HubName.isPlain(String($0)) })
    else { throw .badField(path: repository, field: "revision", value: revision, expected: "a branch, tag or commit") }
    if let file, !HubName.isInside(file) {
      throw .badField(path: repository, field: "file", value: file, expected: "a file of the repository")
    }
  }

  /// Whether a text is one part of a path and nothing that leads elsewhere: ASCII letters, digits, `-`, `_`, `.`.
  package static func isPlain(_ text: String) -> Bool {
    !text.isEmpty && !text.hasPrefix(".")
      && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
  }

  /// Whether the name of a file stays in the folder that it is joined to.
  package static func isInside(_ file: String) -> Bool {
    !file.isEmpty && file.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\\") }
      && file.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
        !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count < 256
      }
  }

  /// The name as `init` takes it.
  package var text: String {
    let isPlainModel = kind == .model && file == nil
    return (isPlainModel ? "" : HubName.prefix) + (kind == .dataset ? "datasets/" : "") + repository
      + (revision == "main" ? "" : "@" + revision) + (file.map { "/" + $0 } ?? "")
  }

  /// The folder of the repository in the cache.
  package var folder: String {
    kind.rawValue + "s--" + repository.split(separator: "/").joined(separator: "--")
  }
}
