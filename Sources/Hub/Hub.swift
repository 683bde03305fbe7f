import Formats
import Glibc
import Tensors

/// Models and data sets of the Hugging Face hub, by name. What is fetched lies in the cache that all programs of the
/// hub share.
package struct Hub {
  let settings: HubSettings
  private let report: (FetchProgress) -> Void

  /// `report` is called several times a second while something is fetched.
  package init(_ settings: HubSettings, report: @escaping (FetchProgress) -> Void = { _ in }) {
    (self.settings, self.report) = (settings, report)
  }

  /// What a name means, where it lies whole in the cache: the folder of a model, or a file.
  package func cached(_ name: HubName) -> String? {
    guard let snapshot = try? HubCache.snapshot(name, environment: environment) else { return nil }
    func has(_ file: String) -> Bool { FileSystem.exists("\(snapshot)/\(file)") }
    if let file = name.file { return has(file) ? "\(snapshot)/\(file)" : nil }
    // Which file of a data set is meant, its list says.
    guard name.kind == .model else { return nil }
    if has(FileName.weightIndex) {
      let index = try? JSON.read(path: "\(snapshot)/\(FileName.weightIndex)")
      let shards = (index?["weight_map"]?.object?.values ?? []).compactMap(\.string)
      return !shards.isEmpty && shards.allSatisfy(has) ? snapshot : nil
    }
    if FileChoice.weightNames.contains(where: has) { return snapshot }
    let files = ((try? FileSystem.list(snapshot)) ?? []).filter { FileChoice.ending($0) == "gguf" }
    return files.count == 1 && has(files[0]) ? "\(snapshot)/\(files[0])" : nil
  }

  /// The cache.
  package var folder: String { settings.folder }

  private func environment(_ name: String) -> String? { name == "HF_HUB_CACHE" ? settings.folder : nil }

  /// Brings what is needed of a repository into the cache, and only what that lacks.
  /// - Returns: the folder of the model, or the file that the name means.
  /// - Throws: `HubError`; `FormatError.diskTooSmall`, `.system`.
  package func fetch(_ name: HubName) throws -> String {
    if FileGate.isClosed { throw HubError.confined(name: name.text) }
    if settings.isOffline {
      guard let path = cached(name) else { throw HubError.offline(name: name.text) }
      return path
    }
    let connections = try Connections(settings)
    let listing = try Listing(name, connections)
    let place = CachePlace(settings.folder, listing)
    let choice = try FileChoice(listing) {
      let index = try listing.file(FileName.weightIndex, connections)
      try bring([index], listing, place, connections)
      return try JSON.read(path: place.path(of: index))
    }
    try bring(try choice.names.map { try listing.file($0, connections) }, listing, place, connections)
    try place.point(name.revision)
    return choice.file.map { "\(place.snapshot)/\($0)" } ?? place.snapshot
  }

  /// Brings files into the cache. One that another process brings is waited for.
  private func bring(
    _ files: [RemoteFile], _ listing: Listing, _ place: CachePlace, _ connections: Connections
  ) throws {
    try place.prepare()
    var meter = Meter(name: listing.name.text, fileCount: files.count, total: files.reduce(0) { $0 + $1.size })
    var pending = files
    while true {
      var blobs: [Blob] = []
      var owner: String?
      for file in pending where !place.has(file) {
        // Two names may be one blob.
        guard !blobs.contains(where: { $0.file.etag == file.etag }) else { continue }
        do {
          guard let lock = try place.lock(file), !place.has(file) else { continue }
          blobs.append(try Blob(file, url: listing.url(file.name), target: place.blob(file), lock: lock))
        } catch {
          guard case FormatError.locked(_, let who) = error else { throw error }
          owner = who
        }
      }
      let lacking = blobs.reduce(0) { $0 + $1.file.size - $1.count }
      let free = try FileSystem.freeByteCount(settings.folder)
      guard lacking <= free else { throw FormatError.diskTooSmall(path: settings.folder, needed: lacking, free: free) }
      let there = meter.total - blobs.reduce(0) { $0 + $1.file.size }
      try Download(connections: connections, name: listing.name).run(
        blobs, onProgress: { meter.update(there + $0, waitingFor: nil).map(report) },
        onWhole: { blob in
          for file in files where file.etag == blob.file.etag { try place.link(file) }
        })
      for file in pending where place.has(file) { try place.link(file) }
      pending.removeAll { place.has($0) }
      if pending.isEmpty { break }
      meter.update(there, waitingFor: owner).map(report)
      try connections.wait(0.3)
    }
    report(meter.end())
  }
}
