import Formats

/// A file of a repository.
struct RemoteFile: Equatable {
  var name: String
  var size: Int
  /// The name of its blob in the cache: the hash of the content, git's or SHA-256.
  var etag: String

  /// The SHA-256 that the hub states; small files, which git itself stores, have git's hash alone.
  var sha256: String? { etag.utf8.count == 64 ? etag : nil }
}

/// A revision of a repository, as the hub lists it.
struct Listing {
  let name: HubName
  let commit: String
  let endpoint: String
  /// The names of its files, with size and hash where the list has them.
  private let entries: [(name: String, size: Int?, etag: String?)]

  var names: [String] { entries.map(\.name) }

  /// - Throws: `HubError`.
  init(_ name: HubName, _ connections: Connections) throws(HubError) {
    (self.name, endpoint) = (name, connections.settings.endpoint)
    let url =
      "\(endpoint)/api/\(name.kind.rawValue)s/\(name.repository)/revision/\(name.revision.escaped())?blobs=true"
    let (transfer, body) = try connections.answer(.init(url: url))
    guard transfer.status == 200 else { throw Listing.error(transfer, body, name, connections) }
    let bad = { (problem: String) in HubError.badAnswer(url: url.withoutQuery, problem: problem) }
    guard let json = try? JSON.parse(body) else { throw bad("the list of files is no JSON") }
    guard let commit = json["sha"]?.string, HubName.isPlain(commit) else { throw bad("the list names no commit") }
    guard let siblings = json["siblings"]?.array else { throw bad("the list has no files") }
    self.commit = commit
    var entries: [(String, Int?, String?)] = []
    for sibling in siblings {
      guard let file = sibling["rfilename"]?.string else { throw bad("a file without a name") }
      guard HubName.isInside(file) else { throw bad("the name \"\(file.prefix(200))\" would leave the cache") }
      let etag = sibling["lfs"]?["sha256"]?.string ?? sibling["lfs"]?["oid"]?.string ?? sibling["blobId"]?.string
      entries.append((file, sibling["lfs"]?["size"]?.int ?? sibling["size"]?.int, etag))
    }
    self.entries = entries
  }

  /// The address of a file of this commit.
  func url(_ file: String) -> String {
    "\(endpoint)/\(name.kind == .dataset ? "datasets/" : "")\(name.repository)/resolve/\(commit)/"
      + file.escaped(keeping: "/")
  }

  /// A file's size and hash, asked for where the list leaves them out.
  func file(_ file: String, _ connections: Connections) throws(HubError) -> RemoteFile {
    let entry = entries.first { $0.name == file }
    if let size = entry?.size, let etag = entry?.etag { return try checked(file, size, etag) }
    let (transfer, body) = try connections.answer(.init(url: url(file), isHead: true))
    guard (200..<400).contains(transfer.status) else { throw Listing.error(transfer, body, name, connections, file) }
    let headers = transfer.headers
    guard let etag = (headers["x-linked-etag"] ?? headers["etag"]).map(Transfer.plain),
      let size = (headers["x-linked-size"] ?? headers["content-length"]).flatMap({ Int($0) })
    else { throw .badAnswer(url: url(file), problem: "the answer has no ETag or no size") }
    return try checked(file, size, etag)
  }

  private func checked(_ file: String, _ size: Int, _ etag: String) throws(HubError) -> RemoteFile {
    guard HubName.isPlain(etag), etag.utf8.count <= 128, size >= 0, size < 1 << 50 else {
      throw .badAnswer(url: url(file), problem: "no size or hash of a file: \(size), \"\(etag.prefix(200))\"")
    }
    return RemoteFile(name: file, size: size, etag: etag.lowercased())
  }

  /// What an answer that is none means.
  static func error(
    _ transfer: Transfer, _ body: [UInt8], _ name: HubName, _ connections: Connections, _ file: String? = nil
  ) -> HubError {
    let (url, settings) = (transfer.request.url.withoutQuery, connections.settings)
    guard connections.isHub(url) else { return .status(url: url, code: transfer.status, message: "") }
    let (endpoint, hasToken) = (settings.endpoint, settings.token != nil)
    let shown = (name.kind == .dataset ? "datasets/" : "") + name.repository
    let page = "\(endpoint)/\(shown)"
    let said = transfer.headers["x-error-message"] ?? (try? JSON.parse(body))?["error"]?.string ?? ""
    let missing = HubError.noRepository(name: shown, endpoint: endpoint, hasToken: hasToken)
    switch (transfer.status, transfer.headers["x-error-code"] ?? "") {
    case (401, "GatedRepo"), (403, "GatedRepo"): return .gated(name: shown, page: page, hasToken: hasToken)
    case (_, "RepoNotFound"): return missing
    case (_, "RevisionNotFound"): return .noRevision(name: shown, revision: name.revision)
    case (404, "EntryNotFound"): return .noFile(name: shown, file: file ?? name.file ?? "", names: [])
    case (401, _): return hasToken ? .badToken(name: shown, page: page) : missing
    // Without a code it is the text that tells a closed door from a firewall's.
    case (403, _) where said.contains("gated") || said.contains("access"):
      return .gated(name: shown, page: page, hasToken: hasToken)
    case (404, _): return file == nil ? missing : .noFile(name: shown, file: file ?? "", names: [])
    default: return .status(url: url, code: transfer.status, message: String(said.prefix(300)))
    }
  }
}
