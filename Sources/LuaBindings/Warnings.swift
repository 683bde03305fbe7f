import Glibc

/// Warnings go to standard error, so that what a recipe prints stays as it is.
enum Warnings {
  /// Set once, at the start, by all ranks but the first: theirs are the same.
  nonisolated(unsafe) static var areTold = true

  static func show(_ text: String) {
    guard areTold else { return }
    // A line of progress may stand there.
    let bytes = Array(((isatty(2) == 1 ? "\r\u{1B}[K" : "") + text + "\n").utf8)
    _ = write(2, bytes, bytes.count)
  }
}
