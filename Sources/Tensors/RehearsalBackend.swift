/// A backend that can go through a computation without doing it: it allocates as always, so that its books tell what the
/// computation would need, and neither computes nor touches memory.
public protocol RehearsalBackend: Backend {
  /// Bytes that blocks in use or kept for reuse and scratch buffers would occupy, as far as they would be written.
  var residentByteCount: Int { get }
  /// The highest since `resetResidentPeak`.
  var peakResidentByteCount: Int { get }
  func resetResidentPeak()
  /// The part of it that is scratch of the kernels.
  var scratchByteCount: Int { get }
}
