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
}
