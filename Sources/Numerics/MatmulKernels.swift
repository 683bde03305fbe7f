/// The functions of one instruction-set build that the matrix products are made of.
///
/// A product is computed in tiles of `rows(mode)` x `columns` outputs. One operand is packed in "row panels"
/// (each lane contiguous along the contraction, `panelStride` words apart), the other in "column panels"
/// (`columns` lanes next to each other for each step of the contraction). A word is a float, or with
/// `pairsBF16` and bfloat16 precision a pair of bfloat16 values.
public struct MatmulKernels: Sendable {
  /// Packs `lanes` x `k` elements: (source, type, source stride, contraction is contiguous, lanes, k, destination,
  /// lane stride, word stride, mode, scratch). One of the destination strides is 1.
  package typealias Pack =
    @convention(c) (
      UnsafeRawPointer, Int32, Int, Bool, Int, Int, UnsafeMutablePointer<Float>, Int, Int, Int32,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// Multiplies a row panel by consecutive column panels and adds to their tiles:
  /// (row panel, lanes, column panels, lanes of all of them, words between panels, words, tiles, overwrite, mode).
  package typealias Multiply =
    @convention(c) (
      UnsafePointer<Float>, Int, UnsafePointer<Float>, Int, Int, Int, UnsafeMutablePointer<Float>, Bool, Int32
    ) -> Void
  /// Writes tiles: (tile, lanes, columns, transposed, alpha, beta, destination, type, stride, scratch).
  package typealias Store =
    @convention(c) (
      UnsafePointer<Float>, Int, Int, Bool, Float, Float, UnsafeMutableRawPointer, Int32, Int,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// Decodes and packs a rectangle of a quantized matrix: (address of a `QuantizedWeightPointers`, first row, rows,
  /// first column, columns, lanes are rows, destination, lane stride, word stride, words between panels, mode,
  /// scratch). Where the lanes follow each other, they may fill several column panels.
  package typealias PackQuantized =
    @convention(c) (
      UnsafeRawPointer, Int, Int, Int, Int, Bool, UnsafeMutablePointer<Float>, Int, Int, Int, Int32,
      UnsafeMutablePointer<Float>
    ) -> Void

  /// Products of a few packed rows of x with rows of a matrix, into a tile of `columns` floats per row: (matrix, type,
  /// stride, its rows, k, x, rows of x, words between them, tile, mode). x and the tile have room for a multiple
  /// of four rows.
  package typealias Dots =
    @convention(c) (
      UnsafeRawPointer, Int32, Int, Int, Int, UnsafePointer<Float>, Int, Int, UnsafeMutablePointer<Float>, Int32
    ) -> Void
  /// The same with rows of a quantized matrix that has wide steps, or whose width and block size are multiples of 32
  /// if x has one row: (address of a `QuantizedWeightPointers`, first row, rows, x, rows of x, words between them,
  /// tile, mode). The rows of x are arranged by `splitEvenOdd`; x and the tile have room for eight.
  package typealias QuantizedDots =
    @convention(c) (
      UnsafeRawPointer, Int, Int, UnsafePointer<Float>, Int, Int, UnsafeMutablePointer<Float>, Int32
    ) -> Void

  /// c = a b of small f32 matrices: (c, its stride, a, elements between its rows, between its columns, b, its stride,
  /// m, k, n). Rows of b and c have room for a multiple of 16, which n is.
  package typealias SmallProduct =
    @convention(c) (
      UnsafeMutablePointer<Float>, Int, UnsafePointer<Float>, Int, Int, UnsafePointer<Float>, Int, Int, Int, Int
    ) -> Void

  /// Brings the elements of each group of 32, or of 64 with `hasWideSteps`, into the order even, odd (and those into
  /// the order in which this build looks codes up), and makes words of them: (floats, count, mode, `hasWideSteps`).
  package typealias SplitEvenOdd = @convention(c) (UnsafeMutablePointer<Float>, Int, Int32, Bool) -> Void

  package var pack: Pack
  package var multiply: Multiply
  package var store: Store
  package var packQuantized: PackQuantized
  package var dots: Dots
  package var smallProduct: SmallProduct
  package var splitEvenOdd: SplitEvenOdd
  package var quantizedDots: QuantizedDots
  /// For matrices in block formats of ggml.
  package var blocks: BlockKernels
  /// `multiply` for pairs, where another tile than that of floats computes them.
  package var multiplyPairs: Multiply
  /// Lanes of a row panel of floats; its buffer has room for `panelLanes`.
  package var rows: Int
  /// Lanes of a row panel of pairs, as `multiplyPairs` takes it.
  package var pairRows: Int
  /// Lanes of a column panel.
  package var columns: Int
  /// Whether bfloat16 products take pairs, so that a word covers two steps of the contraction.
  package var pairsBF16: Bool
  /// Whether products of a few rows (`dots`, `quantizedDots`, those of `blocks`) do so as well.
  package var dotPairsBF16: Bool

  /// Words between the lanes of a row panel, and the most words of one panel.
  @inlinable public static var panelStride: Int { 256 }
  /// Lanes of a row panel.
  package func rows(_ mode: MatmulMode) -> Int { mode == .pairs ? pairRows : rows }
  /// Lanes that the buffer of a row panel has room for: lanes that are transposed come 8 or 16 at a time.
  package func panelLanes(_ mode: MatmulMode) -> Int { rows(mode) <= 8 ? 8 : (rows(mode) + 15) / 16 * 16 }
  /// Floats that the scratch space of a kernel must hold: a decoded rectangle and two 16 x 16 blocks.
  @inlinable public static var scratchCount: Int { 512 * 32 + 512 }

  package init(
    pack: Pack, multiply: Multiply, store: Store, packQuantized: PackQuantized, dots: Dots,
    smallProduct: SmallProduct, splitEvenOdd: SplitEvenOdd, quantizedDots: QuantizedDots, blocks: BlockKernels,
    rows: Int, columns: Int, pairsBF16: Bool, dotPairsBF16: Bool
  ) {
    self.pack = pack
    self.multiply = multiply
    self.multiplyPairs = multiply
    self.store = store
    self.packQuantized = packQuantized
    self.dots = dots
    self.smallProduct = smallProduct
    self.splitEvenOdd = splitEvenOdd
    self.quantizedDots = quantizedDots
    self.blocks = blocks
    self.rows = rows
    self.pairRows = rows
    self.columns = columns
    self.pairsBF16 = pairsBF16
    self.dotPairsBF16 = dotPairsBF16
  }
}

/// How the words of a product are made. Raw values are what the kernels receive.
public enum MatmulMode: Int32, Sendable {
  /// Floats as they are.
  case float = 0
  /// Pairs of bfloat16 values.
  case pairs = 1
  /// Floats rounded to bfloat16.
  case rounded = 2
}

/// A blockwise 4-bit quantized matrix [out, in], as bitsandbytes stores it: two codes per byte, the element with the
/// even index in the high half; blocks of `blockSize` elements run along the flattened matrix.
///
/// The scale of a block is `absmax[block]`, or with double quantization
/// `nestedMap[absmaxCodes[block]] * nestedAbsmax[block >> nestedShift] + offset`, rounded after each operation.
package struct QuantizedWeightPointers: @unchecked Sendable {
  package var codes: UnsafePointer<UInt8>
  package var out: Int
  package var `in`: Int
  package var blockSize: Int
  /// 16 values.
  package var codebook: UnsafePointer<Float>
  package var absmax: UnsafePointer<Float>?
  package var absmaxCodes: UnsafePointer<UInt8>?
  package var nestedAbsmax: UnsafePointer<Float>?
  /// 256 values.
  package var nestedMap: UnsafePointer<Float>?
  package var offset: Float
  /// Logarithm of the blocks per nested maximum: a division per block would cost as much as decoding it.
  package let nestedShift: Int
  /// Whether rows and blocks are whole groups of 64 elements.
  package let hasWideSteps: Bool

  /// Scales given as they are.
  package init(
    codes: UnsafePointer<UInt8>, out: Int, in columns: Int, blockSize: Int, codebook: UnsafePointer<Float>,
    absmax: UnsafePointer<Float>
  ) {
    self.init(
      codes: codes, out: out, in: columns, blockSize: blockSize, codebook: codebook, absmax: absmax, absmaxCodes: nil,
      nestedAbsmax: nil, nestedMap: nil, offset: 0, nestedBlockSize: 256)
  }

  /// Either `absmax` or the four values of double quantization must be present; `nestedBlockSize` is a power of two.
  package init(
    codes: UnsafePointer<UInt8>, out: Int, in columns: Int, blockSize: Int, codebook: UnsafePointer<Float>,
    absmax: UnsafePointer<Float>?, absmaxCodes: UnsafePointer<UInt8>?, nestedAbsmax: UnsafePointer<Float>?,
    nestedMap: UnsafePointer<Float>?, offset: Float, nestedBlockSize: Int = 256
  ) {
    self.codes = codes
    self.out = out
    self.in = columns
    self.blockSize = blockSize
    self.codebook = codebook
    self.absmax = absmax
    self.absmaxCodes = absmaxCodes
    self.nestedAbsmax = nestedAbsmax
    self.nestedMap = nestedMap
    self.offset = offset
    precondition(nestedBlockSize.nonzeroBitCount == 1, "the nested block size must be a power of two")
    nestedShift = nestedBlockSize.trailingZeroBitCount
    hasWideSteps = columns & 63 == 0 && blockSize & 63 == 0
  }
}
