import CPUBackend
import Testing

@testable import Tensors

@Suite struct NumberRangeTests {
  private let backend = CPUBackend(threadCount: 2)

  @Test func nothingHoldsNaN() {
    for range in [NumberRange.finite, .positive, .amount, .rate, .share, .limit] { #expect(!range.contains(.nan)) }
    #expect(NumberRange.limit.contains(.infinity) && !NumberRange.positive.contains(.infinity))
    #expect(!NumberRange.finite.contains(-.infinity) && NumberRange.finite.contains(-1e308))
    #expect(NumberRange.rate.contains(0) && !NumberRange.rate.contains(1) && NumberRange.share.contains(1))
  }

  @Test func boundsOfAnySizeAreWorded() {
    #expect("\(NumberRange.positive)" == "above 0" && "\(NumberRange.amount)" == "of at least 0")
    #expect("\(NumberRange.rate)" == "in [0, 1)" && "\(NumberRange.share)" == "in [0, 1]")
    #expect("\(NumberRange(from: 1e300, including: false))" == "above 1e+300")
    #expect("\(NumberRange(from: -1e300, including: true, below: 0.5))" == "in [-1e+300, 0.5)")
    #expect("\(NumberRange.finite)" == "that is finite")
    #expect(NumberRange.positive.expected(insteadOf: .infinity) == "finite number above 0")
    #expect(NumberRange.positive.expected(insteadOf: -.infinity) == "number above 0")
    #expect(NumberRange.share.expected(insteadOf: .infinity) == "number in [0, 1]")
    #expect(NumberRange.finite.expected(insteadOf: .infinity) == "number that is finite")
  }

  /// Strides and counts of parts of a shape must not overflow, whether or not there are elements.
  @Test(arguments: [
    [0, 1 << 62, 1 << 62], [1 << 62, 1 << 62, 0], [1 << 40, 0, 1 << 40], [.max, 0], [0, .max], [.max], [.max, .max],
  ]) func hugeExtentsAreRefused(shape: [Int]) {
    #expect(throws: TensorError.badShape(operation: "tensor", shape: shape, problem: .tooManyElements)) {
      try Tensor(empty: shape, on: backend)
    }
  }

  @Test func nothingOfSomeSizeIsStillATensor() throws {
    let x = try Tensor(empty: [3, 0, 1 << 20], on: backend)
    #expect(x.elementCount == 0 && x.strides == [1 << 20, 1 << 20, 1] && x.rowStride == 1 << 20)
    #expect(try x.transposed(0, 2).copied().shape == [1 << 20, 0, 3])
  }

  @Test func aSingleNumberHasAStride() throws {
    let x = try Tensor([7], shape: [], on: backend)
    #expect(x.rowStride == 1)
    let view = Tensor(storage: x.storage, dtype: .f32, shape: [], strides: [])
    #expect(try view.rowStride == 1 && view.item() == 7)
  }

  /// Rounding to the dtype must not give the upper bound.
  @Test(arguments: [DType.f32, .bf16, .f16]) func uniformNumbersStayBelowTheBound(dtype: DType) throws {
    for (low, high) in [(0.0, 1.0), (-0.1, 0.1), (-3, -1), (-1, 0), (0, 0.3), (1, 2)] {
      let x = try Tensor(empty: [20_000], dtype: dtype, on: backend)
      try backend.fillUniform(x, low: low, high: high, stream: RandomStream(seed: 1, stream: 2))
      let values = try x.floats().map(Double.init)
      #expect(values.allSatisfy { $0 < high }, "\(dtype) \(low) \(high): \(values.max() ?? 0)")
      // Only the bound is taken back: the largest number below is there.
      #expect((values.max() ?? low) > high - (high - low) / 64)
    }
    let whole = try Tensor(empty: [2000], dtype: .i32, on: backend)
    try backend.fillUniform(whole, low: -5, high: -1, stream: RandomStream(seed: 1, stream: 2))
    #expect(try whole.integers().allSatisfy { $0 < -1 })
  }
}
