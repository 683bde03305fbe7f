import CPlatform
import Numerics

// What products of few rows look up: the values of 4-bit codes, 64 at a time, and the scales of blocks.

/// Sixteen values by code. Nothing is interleaved: of the codes in 32 bytes the upper halves give the even elements and
/// the lower halves the odd ones, each in the order of `arranged`.
struct CodeTable {
  #if ISA_AVX2
    /// The bytes of the values, the lowest first.
    private let planes: (SIMD32<UInt8>, SIMD32<UInt8>, SIMD32<UInt8>, SIMD32<UInt8>)
    private let isBF16: Bool

    /// With `isBF16` the values are rounded to bfloat16 already.
    @inline(__always)
    init(_ values: Vec16, isBF16: Bool = false) {
      planes = (mm_plane(values, 0), mm_plane(values, 1), mm_plane(values, 2), mm_plane(values, 3))
      self.isBF16 = isBF16
    }

    @inline(__always)
    func even(_ codes: UnsafePointer<UInt8>) -> (Vec16, Vec16) { lookup(mm_upper_codes(codes)) }

    @inline(__always)
    func odd(_ codes: UnsafePointer<UInt8>) -> (Vec16, Vec16) { lookup(mm_lower_codes(codes)) }

    @inline(__always)
    private func lookup(_ codes: SIMD32<UInt8>) -> (Vec16, Vec16) {
      let (p0, p1, p2, p3) = planes
      if isBF16 { return (mm_lookup_first_bf16(p2, p3, codes), mm_lookup_second_bf16(p2, p3, codes)) }
      return (mm_lookup_first(p0, p1, p2, p3, codes), mm_lookup_second(p0, p1, p2, p3, codes))
    }

    /// 32 elements in the order of what is looked up.
    @inline(__always)
    static func arranged(_ first: Vec16, _ second: Vec16) -> (Vec16, Vec16) {
      (mm_planes_first(first, second), mm_planes_second(first, second))
    }
  #else
    private let values: Vec16

    @inline(__always)
    init(_ values: Vec16, isBF16: Bool = false) { self.values = values }

    @inline(__always)
    func even(_ codes: UnsafePointer<UInt8>) -> (Vec16, Vec16) {
      let shift = Words16(repeating: 4)
      return (
        mm_lookup16(values, mm_load_bytes(codes) &>> shift), mm_lookup16(values, mm_load_bytes(codes + 16) &>> shift)
      )
    }

    @inline(__always)
    func odd(_ codes: UnsafePointer<UInt8>) -> (Vec16, Vec16) {
      (mm_lookup16(values, mm_load_bytes(codes)), mm_lookup16(values, mm_load_bytes(codes + 16)))
    }

    @inline(__always)
    static func arranged(_ first: Vec16, _ second: Vec16) -> (Vec16, Vec16) { (first, second) }
  #endif
}

/// The scales of blocks that follow each other. Of double quantization the 256 scales that the codes of a nested block
/// can stand for are computed once for all of its blocks.
struct BlockScales {
  private let weight: UnsafePointer<QuantizedWeightPointers>
  private let table: UnsafeMutablePointer<Float>
  private var nested = -1
  // Copies, which are not read again for every block.
  private let absmax: UnsafePointer<Float>?
  private let codes: UnsafePointer<UInt8>?
  private let shift: Int

  /// `table` has room for `tableCount` floats.
  @inline(__always)
  init(_ weight: UnsafePointer<QuantizedWeightPointers>, _ table: UnsafeMutablePointer<Float>) {
    (self.weight, self.table) = (weight, table)
    (absmax, codes, shift) = (weight.pointee.absmax, weight.pointee.absmaxCodes, weight.pointee.nestedShift)
  }

  static var tableCount: Int { 256 }

  @inline(__always)
  subscript(block: Int) -> Float {
    mutating get {
      if let absmax { return absmax[block] }
      // A table for fewer blocks would cost more than it saves.
      if shift < 6 { return Kernels.blockScale(weight, block) }
      if block &>> shift != nested {
        nested = block &>> shift
        Self.fill(weight, nested, table)
      }
      return table[Int(codes.unsafelyUnwrapped[block])]
    }
  }

  @inline(never)
  private static func fill(
    _ weight: UnsafePointer<QuantizedWeightPointers>, _ nested: Int, _ table: UnsafeMutablePointer<Float>
  ) {
    let map = weight.pointee.nestedMap.unsafelyUnwrapped
    let largest = splat(weight.pointee.nestedAbsmax.unsafelyUnwrapped[nested])
    let offset = splat(weight.pointee.offset)
    var i = 0
    while i < tableCount {
      let product = loadFloats(map + i) * largest
      storeFloats(table + i, product + offset)
      i &+= 16
    }
  }
}
