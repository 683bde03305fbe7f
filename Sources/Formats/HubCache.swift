import Glibc

/// The local cache of the Hugging Face hub; nothing is fetched.
package enum HubCache {
  /// The folder of a cached model: `models--org--name/snapshots/<commit of refs/main>` under `$HF_HUB_CACHE`,
  /// `$HF_HOME/hub` or `~/.cache/huggingface/hub`, the first that is set.
  package static func resolve(_ name: String) throws(FormatError) -> String {
    try resolve(name, environment: { getenv($0).map { String(cString: $0) } })
  }

  static func resolve(_ name: String, environment: (String) -> String?) throws(FormatError) -> String {
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    let allowed = { (c: Character) in c.isASCII && (c.isLetter || c.isNumber || "-_.".contains(c)) }
    guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty && !$0.hasPrefix(".") && $0.allSatisfy(allowed) }) else {
      throw .badField(path: "model name", field: "name", value: name, expected: "organisation/name")
    }
    let hub: String
    if let cache = environment("HF_HUB_CACHE"), !cache.isEmpty {
      hub = cache
    } else if let home = environment("HF_HOME"), !home.isEmpty {
      hub = home + "/hub"
    } else {
      hub = (environment("HOME") ?? "") + "/.cache/huggingface/hub"
    }
    let repository = hub + "/models--" + parts.joined(separator: "--")
    let reference = repository + "/refs/main"
    guard FileSystem.exists(reference) else { throw .notCached(name: name, looked: [repository]) }
    let file = try MappedFile(path: reference)
    let text = file.withBytes { String(decoding: $0, as: UTF8.self) }
    let commit = text.prefix { !$0.isWhitespace }
    let snapshot = repository + "/snapshots/" + commit
    guard !commit.isEmpty, commit.allSatisfy(allowed), FileSystem.isDirectory(snapshot) else {
      throw .notCached(name: name, looked: [reference, snapshot])
    }
    return snapshot
  }
}
