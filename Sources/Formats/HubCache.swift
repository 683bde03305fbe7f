import Glibc
import Tensors

/// The local cache of the Hugging Face hub, as huggingface_hub lays it out: `models--org--name` with `blobs`,
/// `snapshots` of links into them, and `refs` that name commits.
package enum HubCache {
  typealias Environment = (String) -> String?

  package static func variable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// Where the hub's programs keep their files: `$HF_HOME`, else `huggingface` in `$XDG_CACHE_HOME` or `~/.cache`.
  package static func home(_ environment: (String) -> String? = variable) -> String {
    environment("HF_HOME").flatMap { $0.isEmpty ? nil : $0 }
      ?? (environment("XDG_CACHE_HOME").flatMap { $0.isEmpty ? nil : $0 } ?? (environment("HOME") ?? "") + "/.cache")
      + "/huggingface"
  }

  /// `$HF_HUB_CACHE`, else `hub` in `home`.
  package static func folder(_ environment: (String) -> String? = variable) -> String {
    environment("HF_HUB_CACHE").flatMap { $0.isEmpty ? nil : $0 } ?? home(environment) + "/hub"
  }

  /// The folder of a cached model: `models--org--name/snapshots/<commit of refs/main>`, or of another revision.
  package static func resolve(_ name: String) throws(FormatError) -> String {
    try resolve(name, environment: variable)
  }

  static func resolve(_ name: String, environment: Environment) throws(FormatError) -> String {
    try snapshot(HubName(name), environment: environment)
  }

  /// The folder of a repository's revision, whatever of it is there.
  /// - Throws: `FormatError.notCached`.
  package static func snapshot(
    _ name: HubName, environment: (String) -> String? = variable
  ) throws(FormatError) -> String {
    let repository = folder(environment) + "/" + name.folder
    let reference = repository + "/refs/" + name.revision
    var commit = name.revision
    if FileSystem.exists(reference) {
      let text = try MappedFile(path: reference).withBytes { String(decoding: $0, as: UTF8.self) }
      commit = String(text.prefix { !$0.isWhitespace })
    }
    let snapshot = repository + "/snapshots/" + commit
    guard HubName.isPlain(commit), FileSystem.isDirectory(snapshot) else {
      throw .notCached(name: name.text, looked: commit == name.revision ? [repository] : [reference, snapshot])
    }
    return snapshot
  }

  /// The hub name and the commit of what lies at a path in the cache, whichever cache that is; nil for any other path.
  package static func origin(ofSnapshot path: String) -> (name: String, commit: String?)? {
    let parts = path.split(separator: "/")
    guard let at = parts.lastIndex(of: "snapshots"), at > 0, parts[at - 1].hasPrefix("models--") else { return nil }
    let name = parts[at - 1].dropFirst("models--".count).split(separator: "--", omittingEmptySubsequences: false)
      .joined(separator: "/")
    guard let repository = (try? HubName(name))?.repository else { return nil }
    return (repository, at + 1 < parts.endIndex ? String(parts[at + 1]) : nil)
  }
}
