import CPlatform
import Numerics

@inline(__always)
private func put(_ p: UnsafeMutablePointer<Float>, _ v: F16) {
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: F16.self)
}

/// Decodes `count` elements of the flattened matrix from `first` on.
@inline(__always)
private func decode(
  _ weight: UnsafePointer<QuantizedWeightPointers>, _ table: F16, _ first: Int, _ count: Int,
  _ target: UnsafeMutablePointer<Float>
) {
  let codes = weight.pointee.codes
  let blockSize = weight.pointee.blockSize
  var done = 0
  var block = first / blockSize
  var end = (block &+ 1) &* blockSize &- first  // of the block, in elements from `first`
  while done < count {
    let stop = min(count, end)
    let s = Kernels.blockScale(weight, block)
    if (first &+ done) & 1 != 0 {
      let code = Int(codes[(first &+ done) &>> 1] & 15)
      target[done] = weight.pointee.codebook[code] * s
      done &+= 1
    }
    let wide = F16(repeating: s)
    while done &+ 16 <= stop {
      put(target + done, mm_decode16(table, codes + (first &+ done) &>> 1) * wide)
      done &+= 16
    }
    while done < stop {
      let index = first &+ done
      let byte = codes[index &>> 1]
      target[done] = weight.pointee.codebook[Int(index & 1 == 0 ? byte &>> 4 : byte & 15)] * s
      done &+= 1
    }
    block &+= 1
    end &+= blockSize
  }
}

extension Kernels {
  /// The scale of one block: both operations of double quantization round, as the reference does.
  @inline(__always)
  static func blockScale(_ weight: UnsafePointer<QuantizedWeightPointers>, _ block: Int) -> Float {
    if let absmax = weight.pointee.absmax { return absmax[block] }
    let code = Int(weight.pointee.absmaxCodes.unsafelyUnwrapped[block])
    let nested = weight.pointee.nestedAbsmax.unsafelyUnwrapped[block / weight.pointee.nestedBlockSize]
    let product = weight.pointee.nestedMap.unsafelyUnwrapped[code] * nested
    return product + weight.pointee.offset
  }

  /// Decodes a rectangle of a quantized matrix and packs it; see `MatmulKernels.PackQuantized`. Rows are decoded in
  /// memory order into the scratch space (at most 16 x 512 or 512 x 32 elements at a time) and packed from there.
  @inline(never)
  static func packQuantized(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ lanesAreRows: Bool, _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int, _ mode: Int32,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let weight = address.assumingMemoryBound(to: QuantizedWeightPointers.self)
    let table = UnsafeRawPointer(weight.pointee.codebook).loadUnaligned(as: F16.self)
    let width = weight.pointee.in
    let blocks = scratch + 512 &* 32
    let pitch = lanesAreRows ? 512 : 32
    for row in 0..<rows {
      decode(weight, table, (firstRow &+ row) &* width &+ firstColumn, columns, scratch + row &* pitch)
    }
    pack(
      scratch, 0, pitch, lanesAreRows, lanesAreRows ? rows : columns, lanesAreRows ? columns : rows, target,
      laneStride, wordStride, mode, blocks)
  }
}
