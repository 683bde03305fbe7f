import CPUBackend
import Tensors

/// SplitMix64: the same numbers on every machine.
struct TestRandom {
  var state: UInt64
  init(_ seed: Int) { state = UInt64(truncatingIfNeeded: seed) }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func unit() -> Float { Float(next() >> 40) / Float(1 << 23) - 1 }
}

func bf16Bits(_ x: Float) -> UInt16 {
  let u = x.bitPattern
  if x.isNaN { return UInt16(u >> 16) | 0x40 }
  return UInt16(truncatingIfNeeded: (UInt64(u) + 0x7fff + UInt64((u >> 16) & 1)) >> 16)
}

func bf16Rounded(_ x: Float) -> Float { Float(bitPattern: UInt32(bf16Bits(x)) << 16) }

/// A row-major matrix of any float type whose last element is followed by a page without access; there is NaN in the
/// gaps of its rows and before it, so that a kernel that reads there gives NaN and one that writes is seen.
final class GuardedMatrix {
  let rows: Int
  let columns: Int
  let stride: Int
  let type: DType
  private let pages: GuardPages
  private var count: Int { rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns }

  init(_ rows: Int, _ columns: Int, _ type: DType, seed: Int?, gap: Int = 3) {
    self.rows = rows
    self.columns = columns
    self.type = type
    stride = columns + gap
    pages = GuardPages(
      byteCount: rows == 0 || columns == 0 ? 0 : ((rows - 1) * (columns + gap) + columns) * type.byteCount)
    if let seed {
      var random = TestRandom(seed)
      for r in 0..<rows { for c in 0..<columns { put(random.unit(), r * stride + c) } }
    }
  }

  var base: UnsafeMutableRawPointer { pages.base }

  private func put(_ x: Float, _ i: Int) {
    switch type {
    case .f32: base.storeBytes(of: x, toByteOffset: i * 4, as: Float.self)
    case .bf16: base.storeBytes(of: bf16Bits(x), toByteOffset: i * 2, as: UInt16.self)
    default: base.storeBytes(of: Float16(x), toByteOffset: i * 2, as: Float16.self)
    }
  }

  private func raw(_ i: Int) -> Float {
    switch type {
    case .f32: base.load(fromByteOffset: i * 4, as: Float.self)
    case .bf16: Float(bitPattern: UInt32(base.load(fromByteOffset: i * 2, as: UInt16.self)) << 16)
    default: Float(base.load(fromByteOffset: i * 2, as: Float16.self))
    }
  }

  subscript(r: Int, c: Int) -> Float { raw(r * stride + c) }

  var values: [Float] { (0..<rows * columns).map { self[$0 / max(1, columns), $0 % max(1, columns)] } }

  /// Whether the gaps and what lies before are as they were.
  var guardsAreIntact: Bool {
    pages.isIntact && (0..<count).allSatisfy { $0 % stride < columns || raw($0).isNaN }
  }

  /// Relative rounding of a stored result.
  var unitRoundoff: Double { type == .f32 ? 1e-7 : type == .bf16 ? 1.0 / 256 : 1.0 / 2048 }
}

/// The product in double (of the given rows, or of all), and for each output the sum of magnitudes that scales its
/// rounding error.
func naiveProduct(
  m: Int, n: Int, k: Int, alpha: Float, beta: Float, old: [Float], precision: DType,
  only rows: [Int]? = nil, a: (Int, Int) -> Float,
  b: (Int, Int) -> Float
) -> [(value: Double, magnitude: Double)] {
  func operand(_ x: Float) -> Double { Double(precision == .bf16 ? bf16Rounded(x) : x) }
  let right = (0..<k * n).map { operand(b($0 / max(1, n), $0 % max(1, n))) }
  var result: [(value: Double, magnitude: Double)] = []
  for i in rows ?? Array(0..<m) {
    let left = (0..<k).map { operand(a(i, $0)) }
    for j in 0..<n {
      var sum = 0.0
      var magnitude = 0.0
      for l in 0..<k {
        let term = left[l] * right[l * n + j]
        sum += term
        magnitude += abs(term)
      }
      let previous = beta == 0 ? 0 : Double(beta) * Double(old[i * n + j])
      result.append((Double(alpha) * sum + previous, abs(Double(alpha)) * magnitude + abs(previous)))
    }
  }
  return result
}

/// The largest error in units of what rounding may cause; above 1 is wrong.
func worstError(_ got: [Float], _ want: [(value: Double, magnitude: Double)], k: Int, roundoff: Double) -> Double {
  var worst = 0.0
  for (g, w) in zip(got, want) {
    let allowed = 1.2e-7 * (4 + Double(k).squareRoot()) * w.magnitude + roundoff * abs(w.value) + 6e-8
    let error = abs(Double(g) - w.value) / allowed
    if !(error <= worst) { worst = error.isNaN ? .infinity : error }
  }
  return worst
}
