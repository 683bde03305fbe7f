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

/// What the codes of a block stand for: scaled once for all of them, and rounded where the product is of rounded
/// floats.
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

/// log2 of the columns of a panel.
private var panelShift: Int { @inline(__always) get { Kernels.matmulColumns == 32 ? 5 : 4 } }

/// Decodes 16 columns of one row, or of two, into the panels from `to` on, of which `lane` counts the columns.
@inline(__always)
private func decodeGroup(
  _ to: UnsafeMutablePointer<Float>, _ pitch: Int, _ lane: Int, _ first: Vec16, _ second: Vec16,
  _ codes: UnsafePointer<UInt8>, _ next: UnsafePointer<UInt8>, _ mode: Int32
) {
  put(
    to + ((lane &>> panelShift) &* pitch &+ lane & (Kernels.matmulColumns &- 1)),
    mode == 1
      ? unsafeBitCast(mm_decode_pair_words(first, second, codes, next), to: Vec16.self) : mm_decode16(first, codes))
}

/// Decodes groups of 16 columns into column panels, `pitch` words from one to the next. The first column and their
/// number are multiples of 16, the width is one of 32, the block size a power of two and at least 32.
@inline(__always)
private func packColumns(
  _ address: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
  _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ pitch: Int, _ mode: Int32
) {
  let weight = address.pointee
  let width = weight.in
  let shift = weight.blockSize.trailingZeroBitCount
  // Columns that in every row lie inside of one block, and share a scale.
  let share = min(64, width & (weight.blockSize &- 1) == 0 ? weight.blockSize : 32)
  // The panels take at most a line from each row, and the hardware does not guess the next row's: the strip after
  // this one is asked for.
  let ahead = (rows &* width) &>> 1
  var row = 0
  var to = target
  while row < rows {
    let hasNext = mode == 1 && row &+ 1 < rows
    var start = (firstRow &+ row) &* width &+ firstColumn
    var column = 0
    while column < columns {
      let run = min(columns &- column, share &- (firstColumn &+ column) & (share &- 1))
      let codes = weight.codes + start &>> 1
      let first = scaled(table, Kernels.blockScale(weight, start &>> shift), mode)
      mm_prefetch(codes + ahead)
      // A missing last row is zero, whatever the scale.
      var next = codes
      var second = Vec16(repeating: 0)
      if hasNext {
        next += width &>> 1
        second = scaled(table, Kernels.blockScale(weight, (start &+ width) &>> shift), mode)
        mm_prefetch(next + ahead)
      }
      let (panel, lane) = (column &>> panelShift, column & (Kernels.matmulColumns &- 1))
      let part = to + panel &* pitch
      if run == 64, lane == 0 {
        // Written out: this is most of what a step with a few rows of many matrices does.
        decodeGroup(part, pitch, 0, first, second, codes, next, mode)
        decodeGroup(part, pitch, 16, first, second, codes + 8, next + 8, mode)
        decodeGroup(part, pitch, 32, first, second, codes + 16, next + 16, mode)
        decodeGroup(part, pitch, 48, first, second, codes + 24, next + 24, mode)
      } else {
        var done = 0
        while done < run {
          decodeGroup(part, pitch, lane &+ done, first, second, codes + done &>> 1, next + done &>> 1, mode)
          done &+= 16
        }
      }
      start &+= run
      column &+= run
    }
    row &+= mode == 1 ? 2 : 1
    to += Kernels.matmulColumns
  }
}

/// Decodes 64 columns of 16 rows, of which the first begins at element `first`, into words of 16 lanes. The codes are
/// turned, which are an eighth of what they stand for, and then looked up for all lanes at a time.
@inline(__always)
private func packLanes(
  _ address: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ first: Int,
  _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ mode: Int32, _ scratch: UnsafeMutablePointer<Float>,
  _ ahead: Int
) {
  let weight = address.pointee
  let shift = weight.blockSize.trailingZeroBitCount
  let codes = weight.codes + first &>> 1
  let asks = first & 127 == 0
  for lane in 0..<16 {
    scratch[128 &+ lane] = Kernels.blockScale(weight, (first &+ lane &* weight.in) &>> shift)
    if asks { mm_prefetch(codes + (lane &* weight.in) &>> 1 + ahead) }
  }
  let scales = UnsafeRawPointer(scratch + 128).loadUnaligned(as: Vec16.self)
  let words = UnsafeRawPointer(codes).assumingMemoryBound(to: Float.self)
  let pitch = weight.in &>> 3
  mm_transpose8(words, pitch, scratch, 16)
  mm_transpose8(words + 8 &* pitch, pitch, scratch + 8, 16)
  for word in 0..<8 {
    mm_decode_lanes(table, scales, scratch + word &* 16, mode, target + word &* 8 &* wordStride, wordStride)
  }
}

/// Decodes rows of whole groups of 32 elements into a column panel whose lanes they are: 16 rows by 16 words at a time,
/// turned in the scratch space. The block size is a power of two. Lanes beyond `rows` repeat the last row; their sums
/// are never read.
@inline(__always)
private func packRowsAcross(
  _ address: UnsafePointer<QuantizedWeightPointers>, _ table: Vec16, _ firstRow: Int, _ rows: Int, _ firstColumn: Int,
  _ columns: Int, _ target: UnsafeMutablePointer<Float>, _ wordStride: Int, _ mode: Int32,
  _ scratch: UnsafeMutablePointer<Float>
) {
  let weight = address.pointee
  let shift = weight.blockSize.trailingZeroBitCount
  let width = weight.in
  let groupSteps = mode == 1 ? 32 : 16
  // Where rows are whole blocks, the scales of the 16 rows change together.
  let scaleSteps = width & (weight.blockSize &- 1) == 0 ? weight.blockSize : groupSteps
  let tables = scratch + 256
  // The panel after this one: its rows follow.
  let ahead = (rows &* width) &>> 1
  var lane = 0
  while lane < rows {
    let last = rows &- 1 &- lane
    let first = (firstRow &+ lane) &* width &+ firstColumn
    var column = 0
    var to = target + lane
    // Rounded pairs are looked up two at a time instead, in tables of their row.
    if mode != 1, last >= 15, weight.hasWideSteps, firstColumn & 63 == 0 {
      while column &+ 64 <= columns {
        packLanes(address, table, first &+ column, to, wordStride, mode, scratch, ahead)
        to += 64 &* wordStride
        column &+= 64
      }
    }
    let begin = column
    while column < columns {
      if column == begin || (firstColumn &+ column) & (scaleSteps &- 1) == 0 {
        for l in 0..<16 {
          let start = first &+ min(l, last) &* width &+ column
          put(tables + l &* 16, scaled(table, Kernels.blockScale(weight, start &>> shift), mode))
        }
      }
      let asks = column & 127 == 0
      for l in 0..<16 {
        let codes = weight.codes + (first &+ min(l, last) &* width &+ column) &>> 1
        if asks { mm_prefetch(codes + ahead) }
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
  static func blockScale(_ weight: QuantizedWeightPointers, _ block: Int) -> Float {
    if let absmax = weight.absmax { return absmax[block] }
    let code = Int(weight.absmaxCodes.unsafelyUnwrapped[block])
    let nested = weight.nestedAbsmax.unsafelyUnwrapped[block &>> weight.nestedShift]
    let product = weight.nestedMap.unsafelyUnwrapped[code] * nested
    return product + weight.offset
  }

  @inline(__always)
  static func blockScale(_ weight: UnsafePointer<QuantizedWeightPointers>, _ block: Int) -> Float {
    blockScale(weight.pointee, block)
  }

  /// Decodes a rectangle of a quantized matrix and packs it; see `MatmulKernels.PackQuantized`. Matrices whose rows
  /// are whole groups of 32 elements are decoded into the panel; others into the scratch space (at most 16 x 512 or
  /// 512 x 32 elements at a time) and packed from there.
  @inline(never)
  static func packQuantized(
    _ address: UnsafeRawPointer, _ firstRow: Int, _ rows: Int, _ firstColumn: Int, _ columns: Int,
    _ lanesAreRows: Bool, _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int,
    _ panelPitch: Int, _ mode: Int32, _ scratch: UnsafeMutablePointer<Float>
  ) {
    let weight = address.assumingMemoryBound(to: QuantizedWeightPointers.self)
    let table = UnsafeRawPointer(weight.pointee.codebook).loadUnaligned(as: Vec16.self)
    let width = weight.pointee.in
    let blockSize = weight.pointee.blockSize
    let isWhole = width & 31 == 0 && blockSize & 31 == 0
    let isPowerOfTwo = blockSize & (blockSize &- 1) == 0
    if isWhole, isPowerOfTwo, !lanesAreRows, laneStride == 1, wordStride == matmulColumns, columns & 15 == 0,
      firstColumn & 15 == 0
    {
      switch mode {
      case 0: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, panelPitch, 0)
      case 1: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, panelPitch, 1)
      default: packColumns(weight, table, firstRow, rows, firstColumn, columns, target, panelPitch, 2)
      }
      return
    }
    if !lanesAreRows, laneStride == 1, columns > matmulColumns {
      for panel in 0..<(columns &+ matmulColumns &- 1) / matmulColumns {
        let column = panel &* matmulColumns
        packQuantized(
          address, firstRow, rows, firstColumn &+ column, min(matmulColumns, columns &- column), false,
          target + panel &* panelPitch, laneStride, wordStride, panelPitch, mode, scratch)
      }
      return
    }
    if isWhole, lanesAreRows, firstColumn & 31 == 0, columns & 31 == 0 {
      if wordStride == 1 {
        switch mode {
        case 0: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 0)
        case 1: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 1)
        default: packRows(weight, table, firstRow, rows, firstColumn, columns, target, laneStride, 2)
        }
        return
      }
      if isPowerOfTwo {
        switch mode {
        case 0: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 0, scratch)
        case 1: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 1, scratch)
        default: packRowsAcross(weight, table, firstRow, rows, firstColumn, columns, target, wordStride, 2, scratch)
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
