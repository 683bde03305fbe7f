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

/// What the codes of a block stand for: scaled once for all of them, and rounded where the product is of rounded floats.
@inline(__always)
private func scaled(_ table: Vec16, _ scale: Float, _ mode: Int32) -> Vec16 {
  let values = table * Vec16(repeating: scale)
  return mode == 2 ? mm_round_bf16(values) : values
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
      let entries = scaled(table, Kernels.blockScale(weight, block), mode)
      var groups = min(left, remaining) &>> 5
      remaining &-= groups &<< 5
      while groups > 0 {
        if mode == 1 {
          put(to, unsafeBitCast(mm_decode_row_words(entries, codes), to: Vec16.self))
          to += 16
        } else {
          put(to, mm_decode16(entries, codes))
          put(to + 16, mm_decode16(entries, codes + 8))
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
  // A panel takes a quarter of a line from each row, and the hardware does not guess the next row's: the strip after
  // this one is asked for.
  let ahead = (rows &* width) &>> 1
  var start = firstRow &* width &+ firstColumn
  var row = 0
  var to = target
  while row < rows {
    let codes = weight.pointee.codes + (start &>> 1)
    let first = scaled(table, Kernels.blockScale(weight, start &>> shift), mode)
    mm_prefetch(codes + ahead)
    if mode == 1 {
      let isLast = row &+ 1 == rows
      let next = isLast ? codes : codes + width &>> 1
      // A missing last row is zero, whatever the scale.
      let second =
        isLast ? Vec16(repeating: 0) : scaled(table, Kernels.blockScale(weight, (start &+ width) &>> shift), mode)
      mm_prefetch(next + ahead)
      var lane = 0
      while lane < columns {
        let words = mm_decode_pair_words(first, second, codes + lane &>> 1, next + lane &>> 1)
        put(to + lane, unsafeBitCast(words, to: Vec16.self))
        lane &+= 16
      }
      start &+= 2 &* width
      row &+= 2
    } else {
      var lane = 0
      while lane < columns {
        put(to + lane, mm_decode16(first, codes + lane &>> 1))
        lane &+= 16
      }
      start &+= width
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
  let tables = scratch + 256
  var lane = 0
  while lane < rows {
    var column = 0
    var to = target + lane
    while column < columns {
      if column == 0 || (firstColumn &+ column) & (scaleSteps &- 1) == 0 {
        for l in 0..<16 {
          let start = (firstRow &+ min(lane &+ l, rows &- 1)) &* width &+ firstColumn &+ column
          put(tables + l &* 16, scaled(table, Kernels.blockScale(weight, start &>> shift), mode))
        }
      }
      for l in 0..<16 {
        let start = (firstRow &+ min(lane &+ l, rows &- 1)) &* width &+ firstColumn &+ column
        let codes = weight.pointee.codes + (start &>> 1)
        // The panel after this one: its rows follow.
        if column & 127 == 0 { mm_prefetch(codes + (rows &* width) &>> 1) }
        let entries = UnsafeRawPointer(tables + l &* 16).loadUnaligned(as: Vec16.self)
        put(
          scratch + l &* 16,
          mode == 1
            ? unsafeBitCast(mm_decode_row_words(entries, codes), to: Vec16.self) : mm_decode16(entries, codes))
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
