import CPlatform

/// Sixteen floats.
typealias Vec16 = SIMD16<Float>
/// Sixteen 32-bit words.
typealias Words16 = SIMD16<UInt32>

/// One build of the kernels. Each file of this folder adds its family in an extension, and one
/// `fill` function that stores the C function pointers of that family into a table declared in Numerics.
/// Nothing but pointers and numbers crosses the border: no arrays, closures, generics or classes here, since
/// weak symbols compiled for a newer processor could be linked into baseline callers.
package enum Kernels {}

/// Calls body(i, 16) for each whole vector below `count`, then body(i, rest) for what is left: with a constant 16 the
/// body's handling of missing elements is compiled away.
@inline(__always)
func forEachVector(_ count: Int, _ body: (_ i: Int, _ rest: Int) -> Void) {
  var i = 0
  while i &+ 16 <= count {
    body(i, 16)
    i &+= 16
  }
  if i < count { body(i, count &- i) }
}
