import Formats

extension Samples {
  /// SHA-256 of all samples in their order: of each the number of tokens, its ids and its labels. Samples of the same
  /// hash train the same.
  /// - Throws: `TensorError` when the device cannot be read.
  public func contentHash() throws -> String {
    if let knownHash, knownHash.count == count { return knownHash.text }
    var hash = SHA256()
    for number in indices {
      let ids = try ids(number)
      withUnsafeBytes(of: UInt64(ids.count).littleEndian) { hash.update($0) }
      ids.withUnsafeBytes { hash.update($0) }
      try labels(number).withUnsafeBytes { hash.update($0) }
    }
    let text = hash.finish()
    knownHash = (count, text)
    return text
  }
}
