import CPlatform
import Numerics

@inline(__always)
private func put(_ p: UnsafeMutablePointer<Float>, _ v: Vec16) {
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: Vec16.self)
}

/// Decodes `count` elements of the flattened matrix from `first` on.
@inline(__always)
private func decode(
  _ weight: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ first: Int, _ count: Int,
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
    let wide = Vec16(repeating: s)
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

/// Decodes rows of whole groups of 32 elements straight into the words of a row panel.
@inline(__always)
private func packRows(
  _ weight: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
  _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ mode: Int32
) {
  let blockSize = weight.pointee.blockSize
  for row in 0..<rows {
    let start = (firstRow &+ row) &* weight.pointee.in &+ firstColumn
    var codes = weight.pointee.codes + (start &>> 1)
    var to = target + (row &* laneStride)
    var block = start / blockSize
    var left = (block &+ 1) &* blockSize &- start
    var remaining = columns
    while remaining > 0 {
      let scale = Vec16(repeating: Kernels.blockScale(weight, block))
      var groups = min(left, remaining) &>> 5
      remaining &-= groups &<< 5
      while groups > 0 {
        let low = mm_decode16(table, codes) * scale
        let high = mm_decode16(table, codes + 8) * scale
        switch mode {
        case 1:
          put(to, unsafeBitCast(mm_row_words(low, high), to: Vec16.self))
          to += 16
        case 0:
          put(to, low)
          put(to + 16, high)
          to += 32
        default:
          put(to, mm_round_bf16(low))
          put(to + 16, mm_round_bf16(high))
          to += 32
        }
        codes += 16
        groups &-= 1
      }
      block &+= 1
      left = blockSize
    }
  }
}

/// Decodes 16 or 32 columns, which in each row lie inside of one block, into a column panel.
@inline(__always)
private func packColumns(
  _ weight: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
  _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ mode: Int32
) {
  let width = weight.pointee.in
  let shift = weight.pointee.blockSize.trailingZeroBitCount  // of a power of two
  @inline(__always)
  func group(_ row: Int, _ scale: Vec16, _ lane: Int) -> Vec16 {
    let index = (firstRow &+ row) &* width &+ firstColumn &+ lane
    return mm_decode16(table, weight.pointee.codes + (index &>> 1)) * scale
  }
  @inline(__always)
  func scale(_ row: Int) -> Vec16 {
    Vec16(repeating: Kernels.blockScale(weight, ((firstRow &+ row) &* width &+ firstColumn) &>> shift))
  }
  var row = 0
  var to = target
  while row < rows {
    let first = scale(row)
    if mode == 1 {
      let second = row &+ 1 < rows ? scale(row &+ 1) : Vec16(repeating: 0)
      let next = row &+ 1 < rows ? row &+ 1 : row
      var lane = 0
      while lane < columns {
        let low = group(row, first, lane)
        // A missing last row must be zero, not zero times something: the scale is 0 and the codebook finite.
        let high = group(next, second, lane)
        put(to + lane, unsafeBitCast(mm_pair_words(low, high), to: Vec16.self))
        lane &+= 16
      }
      row &+= 2
    } else {
      var lane = 0
      while lane < columns {
        let value = group(row, first, lane)
        put(to + lane, mode == 0 ? value : mm_round_bf16(value))
        lane &+= 16
      }
      row &+= 1
    }
    to += wordStride
  }
}

/// Decodes rows of whole groups of 32 elements into a column panel whose lanes they are: 16 rows by 16 words at a time,
/// turned in the scratch space. The block size is a power of two. Lanes beyond `rows` repeat the last row; their sums
/// are never read.
@inline(__always)
private func packRowsAcross(
  _ weight: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
  _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ mode: Int32,
  _ scratch: UnsafeMutablePointer<Float>
) {
  let shift = weight.pointee.blockSize.trailingZeroBitCount
  let width = weight.pointee.in
  let groupSteps = mode == 1 ? 32 : 16
  // Where rows are whole blocks, the scales of the 16 rows change together.
  let scaleSteps = width & (weight.pointee.blockSize &- 1) == 0 ? weight.pointee.blockSize : groupSteps
  let scales = scratch + 256
  var lane = 0
  while lane < rows {
    var column = 0
    var to = target + lane
    while column < columns {
      if column == 0 || (firstColumn &+ column) & (scaleSteps &- 1) == 0 {
        for l in 0..<16 {
          let start = (firstRow &+ min(lane &+ l, rows &- 1)) &* width &+ firstColumn &+ column
          scales[l] = Kernels.blockScale(weight, start &>> shift)
        }
      }
      for l in 0..<16 {
        let start = (firstRow &+ min(lane &+ l, rows &- 1)) &* width &+ firstColumn &+ column
        let codes = weight.pointee.codes + (start &>> 1)
        // The panel after this one: its rows follow.
        if column & 127 == 0 { mm_prefetch(codes + (rows &* width) &>> 1) }
        let scale = Vec16(repeating: scales[l])
        let low = mm_decode16(table, codes) * scale
        switch mode {
        case 1:
          put(
            scratch + l &* 16, unsafeBitCast(mm_row_words(low, mm_decode16(table, codes + 8) * scale), to: Vec16.self))
        case 0: put(scratch + l &* 16, low)
        default: put(scratch + l &* 16, mm_round_bf16(low))
        }
      }
      mm_transpose16(scratch, 16, to, wordStride)
      to += 16 &* wordStride
      column &+= groupSteps
    }
    lane &+= 16
  }
}

extension Kernels {
  /// The scale of one block: both operations of double quantization round, as the reference does.
  @inline(__always)
  static func blockScale(_ weight: UnsafePointer<QuantizedWeightPointers>, _ block: Int) -> Float {
    if let absmax = weight.pointee.absmax { return absmax[block] }
    let code = Int(weight.pointee.absmaxCodes.unsafelyUnwrapped[block])
    let nested = weight.pointee.nestedAbsmax.unsafelyUnwrapped[block &>> weight.pointee.nestedShift]
    let product = weight.pointee.nestedMap.unsafelyUnwrapped[code] * nested
    return product + weight.pointee.offset
  }

  /// Decodes a rectangle of a quantized matrix and packs it; see `MatmulKernels.PackQuantized`. Matrices whose rows
  /// are whole groups of 32 elements are decoded into the panel; others into the scratch space (at most 16 x 512 or
  /// 512 x 32 elements at a time) and packed from there.
  @inline(never)
  static func packQuantized(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ lanesAreRows: Bool, _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int, _ mode: Int32,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let weight = address.assumingMemoryBound(to: QuantizedWeightPointers.self)
    let table = UnsafeRawPointer(weight.pointee.codebook).loadUnaligned(as: Vec16.self)
    let width = weight.pointee.in
    let blockSize = weight.pointee.blockSize
    if width & 31 == 0, blockSize & 31 == 0 {
      let areGroups = firstColumn & 31 == 0 && columns & 31 == 0
      if lanesAreRows, wordStride == 1, areGroups {
        switch mode {
        case 0: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 0)
        case 1: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 1)
        default: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 2)
        }
        return
      }
      if lanesAreRows, laneStride == 1, areGroups, blockSize & (blockSize &- 1) == 0 {
        switch mode {
        case 0: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 0, scratch)
        case 1: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 1, scratch)
        default: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 2, scratch)
        }
        return
      }
      if !lanesAreRows, laneStride == 1, columns & 15 == 0, columns <= 32, firstColumn & (columns &- 1) == 0,
        blockSize & (blockSize &- 1) == 0
      {
        switch mode {
        case 0: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 0)
        case 1: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 1)
        default: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 2)
        }
        return
      }
    }
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
