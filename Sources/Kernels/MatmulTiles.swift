import CPlatform
import Numerics

// The register tiles. Their size follows the number of registers: 28 of 32 for AVX-512, 12 of 16 for AVX2, 24 of 32 for
// NEON. A row panel that is not full takes the smallest tile of even size.

private let lanePitch = 256  // MatmulKernels.panelStride; a literal here gives the loads constant displacements

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
private func add(_ sum: Vec16, to p: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
  let total = overwrite ? sum : load(p) + sum
  UnsafeMutableRawPointer(p).storeBytes(of: total, as: Vec16.self)
}

/// Rows of a tile, with their sums. What they compute with and how wide they are is part of the type: a flag would be
/// asked for in every step.
private protocol TileRows {
  init()
  static var count: Int { get }
  /// Whether a row has the columns of two vectors.
  static var isWide: Bool { get }
  /// Adds the products of a word of each lane with those of the columns.
  mutating func step(_ a: UnsafePointer<Float>, _ left: Vec16, _ right: Vec16)
  func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool)
}

/// What a word of a lane and words of columns add to their sums.
private protocol Words {
  static func add(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16
}

private enum Floats: Words {
  @inline(__always)
  static func add(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16 {
    #if ISA_BASELINE
      sum + a * b
    #else
      sum.addingProduct(a, b)
    #endif
  }
}

#if ISA_AVX512BF16 || ISA_NEON_BF16
  private enum Pairs: Words {
    @inline(__always)
    static func add(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16 {
      mm_dot_pairs(sum, unsafeBitCast(a, to: Words16.self), unsafeBitCast(b, to: Words16.self))
    }
  }
#endif

/// A row of one vector.
private struct Row<W: Words>: TileRows {
  var x = Vec16(repeating: 0)

  static var count: Int { @inline(__always) get { 1 } }
  static var isWide: Bool { @inline(__always) get { false } }

  @inline(__always)
  mutating func step(_ a: UnsafePointer<Float>, _ left: Vec16, _ right: Vec16) {
    x = W.add(x, Vec16(repeating: a.pointee), left)
  }

  @inline(__always)
  func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) { add(x, to: c, overwrite) }
}

#if ISA_AVX512 || ISA_AVX512BF16
  extension Kernels {
    static let matmulRows = 14
    static let matmulColumns = 32
  }

  /// A row of two vectors.
  private struct WideRow<W: Words>: TileRows {
    var x = Vec16(repeating: 0)
    var y = Vec16(repeating: 0)

    static var count: Int { @inline(__always) get { 1 } }
    static var isWide: Bool { @inline(__always) get { true } }

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ left: Vec16, _ right: Vec16) {
      let v = Vec16(repeating: a.pointee)
      x = W.add(x, v, left)
      y = W.add(y, v, right)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      add(x, to: c, overwrite)
      add(y, to: c + 16, overwrite)
    }
  }

  /// The row panel after this one, a cache line per word: 16 lines of each lane. What lies there otherwise is harmless.
  @inline(__always)
  private func prefetchNextPanel(_ a: UnsafePointer<Float>, _ word: Int) {
    mm_prefetch(a + (16 &* lanePitch &+ (word & 15) &* 16 &+ (word &>> 4) &* lanePitch))
  }

#elseif ISA_AVX2 || ISA_NEON
  extension Kernels {
    static let matmulRows = 6
    static let matmulColumns = 16
  }

  /// The row panel after this one, which has room for 8 lanes: half a cache line per word.
  @inline(__always)
  private func prefetchNextPanel(_ a: UnsafePointer<Float>, _ word: Int) {
    mm_prefetch(a + (8 &* lanePitch &+ word &* 8))
  }

#else
  extension Kernels {
    static let matmulRows = 2
    static let matmulColumns = 16
  }

  @inline(__always)
  private func prefetchNextPanel(_ a: UnsafePointer<Float>, _ word: Int) {}
#endif

/// Rows above others. All sums are named members: an array of vectors, indexed in a loop, would live in memory.
private struct Stack<Upper: TileRows, Lower: TileRows>: TileRows {
  var upper = Upper()
  var lower = Lower()

  static var count: Int { @inline(__always) get { Upper.count &+ Lower.count } }
  static var isWide: Bool { @inline(__always) get { Upper.isWide } }

  @inline(__always)
  mutating func step(_ a: UnsafePointer<Float>, _ left: Vec16, _ right: Vec16) {
    upper.step(a, left, right)
    lower.step(a + Upper.count &* lanePitch, left, right)
  }

  @inline(__always)
  func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
    upper.put(c, overwrite)
    lower.put(c + Upper.count &* Kernels.matmulColumns, overwrite)
  }
}

private typealias Two<R: TileRows> = Stack<R, R>
private typealias Four<R: TileRows> = Stack<Two<R>, Two<R>>
private typealias Eight<R: TileRows> = Stack<Four<R>, Four<R>>

@inline(__always)
private func multiplyTile<Tile: TileRows>(
  _: Tile.Type, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
  _ overwrite: Bool
) {
  var tile = Tile()
  var next = b
  var word = 0
  while word < words {
    prefetchNextPanel(a, word)
    let left = load(next)
    tile.step(a + word, left, Tile.isWide ? load(next + 16) : left)
    next += Kernels.matmulColumns
    word &+= 1
  }
  tile.put(c, overwrite)
}

/// The smallest tile that has all lanes. It may have one more, whose sums are never read.
@inline(__always)
private func multiplyPanel<R: TileRows>(
  _: R.Type, _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ words: Int,
  _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool
) {
  #if ISA_AVX512 || ISA_AVX512BF16
    switch lanes {
    case ...2: multiplyTile(Two<R>.self, a, b, words, c, overwrite)
    case ...4: multiplyTile(Four<R>.self, a, b, words, c, overwrite)
    case ...6: multiplyTile(Stack<Four<R>, Two<R>>.self, a, b, words, c, overwrite)
    case ...8: multiplyTile(Eight<R>.self, a, b, words, c, overwrite)
    case ...10: multiplyTile(Stack<Eight<R>, Two<R>>.self, a, b, words, c, overwrite)
    case ...12: multiplyTile(Stack<Eight<R>, Four<R>>.self, a, b, words, c, overwrite)
    default: multiplyTile(Stack<Eight<R>, Stack<Four<R>, Two<R>>>.self, a, b, words, c, overwrite)
    }
  #elseif ISA_AVX2 || ISA_NEON
    switch lanes {
    case ...2: multiplyTile(Two<R>.self, a, b, words, c, overwrite)
    case ...4: multiplyTile(Four<R>.self, a, b, words, c, overwrite)
    default: multiplyTile(Stack<Four<R>, Two<R>>.self, a, b, words, c, overwrite)
    }
  #else
    multiplyTile(Two<R>.self, a, b, words, c, overwrite)
  #endif
}

/// A panel of columns, of which there are `columns` or more.
@inline(__always)
private func multiplyPanel<W: Words>(
  of _: W.Type, _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ columns: Int, _ words: Int,
  _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool
) {
  #if ISA_AVX512 || ISA_AVX512BF16
    if columns > 16 {
      multiplyPanel(WideRow<W>.self, a, lanes, b, words, c, overwrite)
      return
    }
  #endif
  multiplyPanel(Row<W>.self, a, lanes, b, words, c, overwrite)
}

extension Kernels {
  /// Multiplies one row panel by the panels of `columns` lanes; see `MatmulKernels.Multiply`. The sum of each output
  /// runs through the words in order, whatever the size of the tile.
  @inline(never)
  static func multiply(
    _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ columns: Int, _ panelPitch: Int,
    _ words: Int, _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, _ mode: Int32
  ) {
    var from = b
    var to = c
    var left = columns
    while left > 0 {
      #if ISA_AVX512BF16 || ISA_NEON_BF16
        if mode == 1 {
          multiplyPanel(of: Pairs.self, a, lanes, from, left, words, to, overwrite)
        } else {
          multiplyPanel(of: Floats.self, a, lanes, from, left, words, to, overwrite)
        }
      #else
        multiplyPanel(of: Floats.self, a, lanes, from, left, words, to, overwrite)
      #endif
      from += panelPitch
      to += matmulRows &* matmulColumns
      left &-= matmulColumns
    }
  }
}
