/// Whether the program is to stop what it computes; a product or an attention that takes long asks on the way, and
/// ends in `TensorError.interrupted`.
public enum Interruption {
  /// Asked from all threads that compute. Set once, before anything is computed; nobody asks to stop by default.
  nonisolated(unsafe) public static var isRequested: @Sendable () -> Bool = { false }

  /// - Throws: `TensorError.interrupted` where a stop is requested.
  package static func check() throws { if isRequested() { throw TensorError.interrupted } }
}
