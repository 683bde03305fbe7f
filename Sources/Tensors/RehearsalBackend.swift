/// A backend that can go through a computation without doing it: it allocates as always, so that its books tell what
/// the computation would need, and neither computes nor touches memory.
package protocol RehearsalBackend: Backend {
  /// Whether it does, and tensors hold undefined values.
  var isRehearsal: Bool { get }
  /// The highest `residentByteCount` would have been since `resetResidentPeak`.
  var peakResidentByteCount: Int { get }
  func resetResidentPeak()
  /// The part of it that is scratch of the kernels.
  var scratchByteCount: Int { get }
}
