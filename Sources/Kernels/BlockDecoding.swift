import CPlatform
import Numerics

// Matrices in the block formats of ggml, decoded to floats. An element is code * scale - minimum, each operation
// rounded, as ggml computes it. What a code and a scale are stands in simd_blocks.h.

extension Kernels {
  /// Calls `body` with the number of the format; each case is a loop of its own in which the number is a constant.
  @inline(__always)
  static func withBlockFormat(_ format: Int32, _ body: (Int32) -> Void) {
    switch format {
    case 2: body(2)
    case 3: body(3)
    case 6: body(6)
    case 7: body(7)
    case 8: body(8)
    case 10: body(10)
    case 11: body(11)
    case 12: body(12)
    case 13: body(13)
    case 14: body(14)
    case 20: body(20)
    case 139: body(139)
    default: body(39)
    }
  }

  /// The first block of a row.
  @inline(__always)
  static func blockRow(_ weight: UnsafePointer<BlockWeightPointers>, _ row: Int) -> UnsafePointer<UInt8> {
    let (bytes, pitch) = (weight.pointee.bytes, weight.pointee.pitch)
    if let order = weight.pointee.order { return bytes + Int(order[row]) &* pitch }
    guard let partner = weight.pointee.partner else { return bytes + row &* pitch }
    return (row & 1 == 0 ? bytes : partner) + (row &>> 1) &* pitch
  }

  /// Brings the scales and minima of the block at `p` to `scales`.
  @inline(__always)
  static func blockScales(
    _ format: Int32, _ weight: UnsafePointer<BlockWeightPointers>, _ p: UnsafePointer<UInt8>,
    _ scales: UnsafeMutablePointer<Float>
  ) {
    guard gg_is_apart(format) else { return gg_scales(format, p, scales) }
    gg_half_power(weight.pointee.scales.unsafelyUnwrapped[(p - weight.pointee.bytes) &>> 4], scales)
  }

  /// See `BlockKernels.DecodeRow`.
  @inline(never)
  static func decodeBlockRow(_ address: UnsafeRawPointer, _ row: Int, _ target: UnsafeMutablePointer<Float>) {
    let weight = address.assumingMemoryBound(to: BlockWeightPointers.self)
    packBlocksAlong(weight, row, 1, 0, weight.pointee.in, target, weight.pointee.in, 0, 0)
  }
}
