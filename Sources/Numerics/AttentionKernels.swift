/// One head's attention between consecutive query rows and key rows, for the kernels. Strides count elements.
///
/// Query row i stands at position `queryOffset + i` of the keys' numbering and sees key j when j <= that position and,
/// with a window, position - j < window.
package struct AttentionTask: @unchecked Sendable {
  package var q: UnsafeRawPointer
  package var k: UnsafeRawPointer
  package var v: UnsafeRawPointer
  /// Output of the forward pass: written by `forward`, read by `backward`.
  package var out: UnsafeMutableRawPointer
  /// Log-sum-exp of each query row, or nil when not wanted.
  package var lse: UnsafeMutablePointer<Float>?
  package var dOut: UnsafeRawPointer?
  package var dq: UnsafeMutableRawPointer?
  /// f32 [keyCount, headDim] sums of this head, zeroed by the caller.
  package var dk: UnsafeMutablePointer<Float>?
  package var dv: UnsafeMutablePointer<Float>?
  /// DType of q, k, v, out, dOut, dq.
  package var type: Int32
  package var queryStride: Int
  package var keyStride: Int
  package var headDim: Int
  package var queryCount: Int
  package var keyCount: Int
  package var queryOffset: Int
  package var window: Int
  package var scale: Float
  /// Scores become softCap * tanh(scale * s / softCap); 0 leaves them as they are.
  package var softCap: Float = 0
  /// Heads that share these keys and values, one after the other in q and out; more than one only for a single query
  /// row, at most `AttentionKernels.mostMembers`.
  package var memberCount = 1
  /// A score without a value that joins each row's softmax; minus infinity is none.
  package var sink: Float = -.infinity
  /// The sinks of the heads from this one on, where there are several.
  package var sinks: UnsafePointer<Float>?
  /// `AttentionKernels.scratchCount` floats.
  package var scratch: UnsafeMutablePointer<Float>

  package init(
    q: UnsafeRawPointer, k: UnsafeRawPointer, v: UnsafeRawPointer, out: UnsafeMutableRawPointer,
    lse: UnsafeMutablePointer<Float>?, type: Int32, queryStride: Int, keyStride: Int, headDim: Int, queryCount: Int,
    keyCount: Int, queryOffset: Int, window: Int, scale: Float, scratch: UnsafeMutablePointer<Float>
  ) {
    self.q = q
    self.k = k
    self.v = v
    self.out = out
    self.lse = lse
    self.type = type
    self.queryStride = queryStride
    self.keyStride = keyStride
    self.headDim = headDim
    self.queryCount = queryCount
    self.keyCount = keyCount
    self.queryOffset = queryOffset
    self.window = window
    self.scale = scale
    self.scratch = scratch
  }
}

/// The attention functions of one instruction-set build; each takes the address of an `AttentionTask`.
public struct AttentionKernels: Sendable {
  package typealias Run = @convention(c) (UnsafeRawPointer) -> Void

  /// Attention of one head over query rows, blockwise with running softmax.
  package var forward: Run
  /// Gradients of one head over a whole sequence.
  package var backward: Run

  /// Rows of a block of queries and of keys: S and P of a block are 16 KiB each, which stay in L1 with the operands.
  @inlinable public static var block: Int { 64 }

  /// Heads of a group that one task may take; their sums fit the scratch of a block.
  package static let mostMembers = 128

  /// Floats of scratch: blocks of [64, headDim] and [64, 64], row statistics, and dQ of a whole sequence.
  package static func scratchCount(headDim: Int, queryCount: Int) -> Int {
    let width = (headDim + 31) & ~31
    return 8 * block * width + 5 * block * block + 4 * block + queryCount * width + queryCount
  }

  package init(forward: @escaping Run, backward: @escaping Run) {
    self.forward = forward
    self.backward = backward
  }
}
