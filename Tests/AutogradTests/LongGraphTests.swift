import Glibc
import Tensors
import Testing

@testable import Autograd

/// Graphs far longer than a stack has room for frames are released, unused and after their gradient, also where the
/// stack is small.
@Suite struct LongGraphTests {
  /// One more operation on the end of a chain.
  enum Link: String, CaseIterable {
    case addition, view, transposition, conversion, checkpoint, product

    var count: Int { self == .addition ? 1_000_000 : 50_000 }

    func apply(_ x: Tensor, _ one: Tensor) throws -> Tensor {
      switch self {
      case .addition: try binary(.add, x, one)
      case .view: try reshape(x, [1, 1])
      case .transposition: try transpose(x, 0, 1)
      case .conversion: try convert(x, to: x.dtype == .f32 ? .bf16 : .f32)
      case .checkpoint: try checkpointed(x) { try binary(.add, $0, one) }
      // The product keeps the norm that made its input, to compute it again.
      case .product:
        try linear(
          try rmsNorm(x, weight: one.viewed([1]), epsilon: 1e-6),
          [
            LinearLayer(weight: .dense(one), branch: LowRank(a: one, b: one, scaling: 1))
          ], precision: .f32)[0]
      }
    }
  }

  @Test(arguments: Link.allCases, [false, true]) func areReleased(link: Link, withGradient: Bool) throws {
    let result = try onSmallStack {
      let x = try Tensor(full: [1, 1], value: 1, on: testBackend)
      let one = try Tensor(full: [1, 1], value: 1, on: testBackend)
      x.requiresGradient = true
      var y = x
      for _ in 0..<link.count { y = try link.apply(y, one) }
      weak let last = (y.producer as? GraphEdge)?.node
      if withGradient { try y.backward() }
      y = x
      #expect(last == nil)
      return try x.gradient?.item()
    }
    #expect((result != nil) == withGradient)
  }

  /// A result in the middle that somebody holds keeps what it was computed from, and nothing else.
  @Test func aHeldResultKeepsItsPart() throws {
    let x = try Tensor([3], on: testBackend)
    x.requiresGradient = true
    let middle = try binary(.multiply, x, x)
    var y = middle
    for _ in 0..<1000 { y = try binary(.add, y, y) }
    weak let last = (y.producer as? GraphEdge)?.node
    y = x
    #expect(last == nil)
    try middle.backward()
    #expect(try x.gradient?.item() == 6)
  }

  /// What `body` returns on a thread with 256 KiB of stack.
  private func onSmallStack(_ body: @escaping () throws -> Double?) throws -> Double? {
    final class Work {
      let body: () throws -> Double?
      var result: Result<Double?, any Error>?
      init(_ body: @escaping () throws -> Double?) { self.body = body }
    }
    let work = Work(body)
    var settings = pthread_attr_t()
    pthread_attr_init(&settings)
    pthread_attr_setstacksize(&settings, 256 << 10)
    var thread = pthread_t()
    let status = pthread_create(
      &thread, &settings,
      { raw in
        let work = Unmanaged<Work>.fromOpaque(raw!).takeUnretainedValue()
        work.result = Result { try work.body() }
        return nil
      }, Unmanaged.passUnretained(work).toOpaque())
    try #require(status == 0)
    pthread_join(thread, nil)
    return try #require(work.result).get()
  }
}
