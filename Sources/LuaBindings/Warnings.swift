import Glibc

/// Warnings go to standard error, so that what a recipe prints stays as it is.
enum Warnings {
  static func show(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    _ = write(2, bytes, bytes.count)
  }
}
