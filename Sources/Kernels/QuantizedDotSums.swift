import CPlatform
import Numerics

// The parts of a product of few rows of x with a quantized matrix: where rows lie, what their codes stand for, and
// sums.

/// Rows of a quantized matrix.
struct MatrixPart {
  let weight: UnsafePointer<QuantizedWeightPointers>
  let firstOut: Int
  let outs: Int
  /// Room for the table of `BlockScales`.
  let scales: UnsafeMutablePointer<Float>

  /// Codes from one element of a row on, its block and the elements of that block that are still to come.
  @inline(__always)
  func place(_ out: Int, _ column: Int) -> (UnsafePointer<UInt8>, Int, Int) {
    let start = (firstOut &+ out) &* weight.pointee.in &+ column
    let block = start / weight.pointee.blockSize
    return (weight.pointee.codes + (start &>> 1), block, (block &+ 1) &* weight.pointee.blockSize &- start)
  }

  /// Bytes from the codes in use to those asked for: a job is too short for the processor to see where it leads.
  var prefetchDistance: Int { 2048 }
}

/// What the codes of a block stand for.
struct BlockTable {
  #if ISA_AVX512BF16
    private let words: Words16
  #endif
  private let table: CodeTable
  /// By what the looked up values are still to be multiplied.
  private let scale: Vec16

  /// Sixteen values are scaled and rounded instead of every weight, but where a table of floats is made of bytes, which
  /// takes longer than scaling 64 of them.
  @inline(__always)
  init(_ book: Vec16, _ scale: Float, _ mode: Int32) {
    self.scale = splat(scale)
    let scaled = book * self.scale
    #if ISA_AVX512BF16
      words = mm_word_table(scaled)
    #endif
    #if ISA_AVX2
      table = mode == 0 ? CodeTable(book) : CodeTable(mm_round_bf16(scaled), isBF16: true)
    #else
      table = CodeTable(mode == 0 ? scaled : mm_round_bf16(scaled))
    #endif
  }

  @inline(__always)
  private func scaled(_ v: Vec16, _ mode: Int32) -> Vec16 {
    #if ISA_AVX2
      mode == 0 ? v * scale : v
    #else
      v
    #endif
  }

  /// Adds the products of 64 weights with one row.
  @inline(__always)
  func multiply(
    _ codes: UnsafePointer<UInt8>, _ x: UnsafePointer<Float>, _ first: inout Vec16, _ second: inout Vec16,
    _ mode: Int32
  ) {
    let even = table.even(codes)
    first = madd(scaled(even.0, mode), loadFloats(x), first)
    second = madd(scaled(even.1, mode), loadFloats(x + 16), second)
    let odd = table.odd(codes)
    first = madd(scaled(odd.0, mode), loadFloats(x + 32), first)
    second = madd(scaled(odd.1, mode), loadFloats(x + 48), second)
  }

  /// With four rows.
  @inline(__always)
  func multiply(
    _ codes: UnsafePointer<UInt8>, _ x: UnsafePointer<Float>, _ pitch: Int, _ first: inout RowSums,
    _ second: inout RowSums, _ mode: Int32
  ) {
    #if ISA_AVX512BF16
      if mode == 1 {
        let bytes = mm_load_bytes32(codes)
        first.addPairs(mm_lookup_high(words, bytes), x, pitch)
        second.addPairs(mm_lookup_low(words, bytes), x + 16, pitch)
        return
      }
    #endif
    let even = table.even(codes)
    first.add(scaled(even.0, mode), x, pitch)
    // Sixteen registers hold one sum of each row.
    #if ISA_AVX512 || ISA_AVX512BF16
      second.add(even.1, x + 16, pitch)
      let odd = table.odd(codes)
      first.add(odd.0, x + 32, pitch)
      second.add(odd.1, x + 48, pitch)
    #else
      first.add(scaled(even.1, mode), x + 16, pitch)
      let odd = table.odd(codes)
      first.add(scaled(odd.0, mode), x + 32, pitch)
      first.add(scaled(odd.1, mode), x + 48, pitch)
    #endif
  }

  /// With eight rows.
  @inline(__always)
  func multiply(
    _ codes: UnsafePointer<UInt8>, _ x: UnsafePointer<Float>, _ pitch: Int, _ first: inout RowSums,
    _ second: inout RowSums, _ first4: inout RowSums, _ second4: inout RowSums, _ mode: Int32
  ) {
    multiply(codes, x, pitch, &first, &second, mode)
    multiply(codes, x + 4 &* pitch, pitch, &first4, &second4, mode)
  }
}

#if ISA_AVX512BF16
  @inline(__always)
  func pairProducts(_ sum: Vec16, _ weights: Words16, _ x: UnsafePointer<Float>) -> Vec16 {
    mm_dot_pairs(sum, weights, unsafeBitCast(loadFloats(x), to: Words16.self))
  }
#endif

/// One vector of sums for each of four rows of x.
struct RowSums {
  var r0 = splat(0)
  var r1 = splat(0)
  var r2 = splat(0)
  var r3 = splat(0)

  @inline(__always)
  mutating func add(_ weights: Vec16, _ x: UnsafePointer<Float>, _ pitch: Int) {
    r0 = madd(weights, loadFloats(x), r0)
    r1 = madd(weights, loadFloats(x + pitch), r1)
    r2 = madd(weights, loadFloats(x + 2 &* pitch), r2)
    r3 = madd(weights, loadFloats(x + 3 &* pitch), r3)
  }

  #if ISA_AVX512BF16
    @inline(__always)
    mutating func addPairs(_ weights: Words16, _ x: UnsafePointer<Float>, _ pitch: Int) {
      r0 = pairProducts(r0, weights, x)
      r1 = pairProducts(r1, weights, x + pitch)
      r2 = pairProducts(r2, weights, x + 2 &* pitch)
      r3 = pairProducts(r3, weights, x + 3 &* pitch)
    }
  #endif

  /// Adds the totals of these and `others` to a tile.
  @inline(__always)
  func put(_ others: RowSums, _ to: UnsafeMutablePointer<Float>) {
    to[0] += mm_sum(r0 + others.r0)
    to[Kernels.matmulColumns] += mm_sum(r1 + others.r1)
    to[2 &* Kernels.matmulColumns] += mm_sum(r2 + others.r2)
    to[3 &* Kernels.matmulColumns] += mm_sum(r3 + others.r3)
  }
}
