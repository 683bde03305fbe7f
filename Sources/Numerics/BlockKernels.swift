/// The functions of one instruction-set build for matrices in a block format of ggml.
package struct BlockKernels: Sendable {
  /// Decodes and packs rows that are lanes: (address of a `BlockWeightPointers`, first row, rows, first column,
  /// columns, destination, lane stride, word stride, mode, scratch), as `MatmulKernels.PackQuantized` has it. Columns
  /// come in multiples of 32. Where the lane stride is 1, missing lanes up to a multiple of 16 are overwritten.
  package typealias PackRows =
    @convention(c) (
      UnsafeRawPointer, Int, Int, Int, Int, UnsafeMutablePointer<Float>, Int, Int, Int32, UnsafeMutablePointer<Float>
    ) -> Void
  /// Decodes and packs columns that are the lanes of neighbouring column panels: (address of a `BlockWeightPointers`,
  /// first row, rows, first column, columns, destination, words between panels, mode). Columns come in multiples of 16.
  package typealias PackColumns =
    @convention(c) (UnsafeRawPointer, Int, Int, Int, Int, UnsafeMutablePointer<Float>, Int, Int32) -> Void
  /// Floats of a row of x as `arrange` writes it: (the format's number in `enum ggml_type`, k, mode).
  package typealias ArrangedCount = @convention(c) (Int32, Int, Int32) -> Int
  /// Brings rows of x into the order in which `dots` reads them, with sums for minima, completed to `mostRows` at most:
  /// (format, packed x, its rows, k, words between them, destination, mode).
  package typealias Arrange =
    @convention(c) (
      Int32, UnsafePointer<Float>, Int, Int, Int, UnsafeMutablePointer<Float>, Int32
    ) -> Void
  /// Products of at most `mostRows` arranged rows of x with rows of the matrix, as `MatmulKernels.QuantizedDots`, whose
  /// words between rows of x are `arrangedCount`. Scales multiply sums of products with codes, which are exact, so that
  /// no weight is rounded; a row's sums are the same whatever rows stand beside it. The tile is `tileCount` floats.
  package typealias Dots = MatmulKernels.QuantizedDots
  /// Decodes one row to floats: (address of a `BlockWeightPointers`, row, destination).
  package typealias DecodeRow = @convention(c) (UnsafeRawPointer, Int, UnsafeMutablePointer<Float>) -> Void

  package var packRows: PackRows
  package var packColumns: PackColumns
  package var arrangedCount: ArrangedCount
  package var arrange: Arrange
  package var dots: Dots
  package var decodeRow: DecodeRow
  /// Most rows that `dots` takes.
  package var mostRows: Int

  package init(
    packRows: PackRows, packColumns: PackColumns, arrangedCount: ArrangedCount, arrange: Arrange, dots: Dots,
    decodeRow: DecodeRow, mostRows: Int
  ) {
    self.packRows = packRows
    self.packColumns = packColumns
    self.arrangedCount = arrangedCount
    self.arrange = arrange
    self.dots = dots
    self.decodeRow = decodeRow
    self.mostRows = mostRows
  }

  /// Most rows of x that take dot products: with more, packed tiles are faster. Floats are multiplied by eight rows of
  /// x in one pass over the matrix; a second pass decodes it again, which is worth it for pairs alone.
  package func dotRows(_ mode: MatmulMode) -> Int { mode == .pairs ? mostRows : min(mostRows, 8) }

  /// A tile of `mostRows`, and a vector of sixteen sums for every element of eight rows.
  package func tileCount(columns: Int) -> Int { columns * (mostRows + 8 * 16) }
}

/// A matrix [out, in] whose rows are blocks of a format of ggml, in the bytes of its file.
package struct BlockWeightPointers: @unchecked Sendable {
  package var bytes: UnsafePointer<UInt8>
  package var out: Int
  package var `in`: Int
  /// The format's number in `enum ggml_type`; `apart` for MXFP4 whose scales lie apart.
  package var format: Int32
  /// Bytes of a row.
  package var pitch: Int
  /// The stored row of each row; nil where they are the same.
  package var order: UnsafePointer<Int32>?
  /// The odd rows, where `bytes` has the even ones.
  package var partner: UnsafePointer<UInt8>?
  /// The scales of all blocks, where `bytes` has their codes alone.
  package var scales: UnsafePointer<UInt8>?

  /// `gg_mxfp4_apart` of simd_blocks.h.
  package static let apart: Int32 = 139

  package init(
    bytes: UnsafePointer<UInt8>, out: Int, in columns: Int, format: Int32, pitch: Int, order: UnsafePointer<Int32>?,
    partner: UnsafePointer<UInt8>?, scales: UnsafePointer<UInt8>?
  ) {
    self.bytes = bytes
    self.out = out
    self.in = columns
    self.format = format
    self.pitch = pitch
    self.order = order
    self.partner = partner
    self.scales = scales
  }
}
