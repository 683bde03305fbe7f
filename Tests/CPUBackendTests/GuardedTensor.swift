import Tensors
import Testing

@testable import CPUBackend

/// Every backend there is on this machine: each instruction set, on one thread and on three.
let backends: [CPUBackend] = InstructionSet.allCases.filter(\.isSupported).flatMap { set in
  [1, 3].map { CPUBackend(threadCount: $0, instructionSet: set) }
}

/// A tensor between guard pages: see `GuardPages`.
struct GuardedTensor {
  private let pages: GuardPages
  let tensor: Tensor

  /// Without values all bytes are ones: NaN in float types.
  init(empty shape: [Int], _ dtype: DType = .f32, on backend: CPUBackend) {
    let pages = GuardPages(byteCount: shape.reduce(1, *) * dtype.byteCount)
    self.pages = pages
    tensor = Tensor(storage: GuardedStorage(pages, on: backend), dtype: dtype, shape: shape)
  }

  init(_ values: [Float], _ shape: [Int], _ dtype: DType = .f32, on backend: CPUBackend) throws {
    self.init(empty: shape, dtype, on: backend)
    try backend.copy(try Tensor(values, shape: shape, on: backend), into: tensor)
  }

  /// Random values in [-1, 1), rounded to the dtype.
  init(random seed: Int, _ shape: [Int], _ dtype: DType = .f32, scale: Float = 1, on backend: CPUBackend) throws {
    var random = TestRandom(seed)
    try self.init((0..<shape.reduce(1, *)).map { _ in random.unit() * scale }, shape, dtype, on: backend)
  }

  init(zeros shape: [Int], _ dtype: DType = .f32, on backend: CPUBackend) throws {
    self.init(empty: shape, dtype, on: backend)
    try backend.fill(tensor, 0)
  }

  func values() throws -> [Float] { try tensor.floats() }
  var isIntact: Bool { pages.isIntact }
}

private final class GuardedStorage: HostStorage, @unchecked Sendable {
  private let pages: GuardPages

  init(_ pages: GuardPages, on backend: CPUBackend) {
    self.pages = pages
    super.init(base: pages.base, byteCount: pages.byteCount, category: .activations, backend: backend)
  }
}

/// Results that one instruction set gives on different numbers of threads: they must agree to the bit.
struct SameBits {
  private var wanted: [InstructionSet: [[UInt32]]] = [:]

  mutating func check(_ results: [GuardedTensor], on backend: CPUBackend) throws {
    let bits = try results.map { try $0.values().map(\.bitPattern) }
    if let wanted = wanted[backend.instructionSet] {
      #expect(bits == wanted, "\(backend.instructionSet): bits depend on the number of threads")
    } else {
      wanted[backend.instructionSet] = bits
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
