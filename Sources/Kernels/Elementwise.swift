import CPlatform

extension Kernels {
  @inline(never)
  static func cast(
    _ x: UnsafeRawPointer, _ xType: Int32, _ y: UnsafeMutableRawPointer, _ yType: Int32, _ count: Int
  ) {
    forEachVector(count) { i, rest in
      putElement16(y, yType, i, rest, element16(x, xType, i, rest))
    }
  }

  @inline(never)
  static func accumulate(
    _ x: UnsafeRawPointer, _ xType: Int32, _ a: Float, _ y: UnsafeMutableRawPointer, _ yType: Int32, _ b: Float,
    _ count: Int
  ) {
    forEachVector(count) { i, rest in
      var v = element16(x, xType, i, rest) * splat(a)
      // y may be uninitialised when b is 0, so it is not read then.
      if b != 0 { v = madd(element16(y, yType, i, rest), splat(b), v) }
      putElement16(y, yType, i, rest, v)
    }
  }

  /// The sum of the products of two rows of one type.
  @inline(never)
  static func dot(_ x: UnsafeRawPointer, _ y: UnsafeRawPointer, _ type: Int32, _ count: Int) -> Float {
    @inline(__always) func loop(_ type: Int32) -> Float {
      var sums = splat4(0)
      forEachFour(count) { i in
        sums = madd(Vec64(x, type, i), Vec64(y, type, i), sums)
      } _: { i, rest in
        sums.a = madd(element16(x, type, i, rest), element16(y, type, i, rest), sums.a)
      }
      return sums.sum
    }
    switch type {
    case 0: return loop(0)
    case 1: return loop(1)
    default: return loop(2)
    }
  }
}
