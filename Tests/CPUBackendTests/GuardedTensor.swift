import CPUBackend
import Tensors

/// Every backend there is on this machine: each instruction set, on one thread and on three.
let backends: [CPUBackend] = InstructionSet.allCases.filter(\.isSupported).flatMap { set in
  [1, 3].map { CPUBackend(threadCount: $0, instructionSet: set) }
}

/// A tensor whose memory has NaN before and behind it: a kernel that reads outside gives NaN, one that writes outside is
/// seen by `isIntact`.
struct GuardedTensor {
  static let margin = 64
  private let whole: Tensor
  let tensor: Tensor

  init(_ values: [Float], _ shape: [Int], _ dtype: DType = .f32, on backend: CPUBackend) throws {
    let margin = [Float](repeating: .nan, count: Self.margin)
    let all = margin + values + margin
    whole = try Tensor(all, shape: [all.count], on: backend).converted(to: dtype)
    tensor = try whole.narrowed(0, Self.margin..<Self.margin + values.count).viewed(shape)
  }

  /// Random values in [-1, 1), rounded to the dtype.
  init(random seed: Int, _ shape: [Int], _ dtype: DType = .f32, scale: Float = 1, on backend: CPUBackend) throws {
    var random = TestRandom(seed)
    try self.init((0..<shape.reduce(1, *)).map { _ in random.unit() * scale }, shape, dtype, on: backend)
  }

  init(zeros shape: [Int], _ dtype: DType = .f32, on backend: CPUBackend) throws {
    try self.init([Float](repeating: 0, count: shape.reduce(1, *)), shape, dtype, on: backend)
  }

  func values() throws -> [Float] { try tensor.floats() }

  var isIntact: Bool {
    get throws {
      let all = try whole.floats()
      return all.prefix(Self.margin).allSatisfy(\.isNaN) && all.suffix(Self.margin).allSatisfy(\.isNaN)
    }
  }
}

/// Largest difference relative to the largest wanted magnitude (at least 1); infinite when a value is NaN.
func largestError(_ got: [Float], _ wanted: [Double]) -> Double {
  guard got.count == wanted.count else { return .infinity }
  let scale = max(1, wanted.map(\.magnitude).max() ?? 1)
  var worst = 0.0
  for (a, b) in zip(got, wanted) {
    let difference = abs(Double(a) - b)
    guard difference <= .greatestFiniteMagnitude else { return .infinity }
    worst = max(worst, difference)
  }
  return worst / scale
}

/// Half a unit in the last place of the dtype, and a little for the arithmetic in f32 before the rounding.
func tolerance(_ dtype: DType) -> Double {
  switch dtype {
  case .bf16: return 0x1p-8 * 1.01
  case .f16: return 0x1p-11 * 1.01
  default: return 4e-6
  }
}
