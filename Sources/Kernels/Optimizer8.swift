import CPlatform
import Numerics

// Updates with 8-bit state: a block is decoded with its old maxima, the parameter moved by the unrounded new
// moments, then the block is encoded against its new maxima (bitsandbytes' blockwise kernels). Products and sums are
// rounded one by one, so that every instruction set gives the same bits.

/// Elements per block of 8-bit state.
@inline(__always)
private var stateBlock: Int { DynamicMap.stateBlockSize }

extension Kernels {
  /// Codes of moments in [-top, top].
  @inline(__always)
  private static func encodeMoments(
    _ codec: DynamicCodec, isSigned: Bool, _ top: Float, _ m: UnsafePointer<Float>, _ size: Int,
    _ codes: UnsafeMutablePointer<UInt8>
  ) {
    if top > 0 {
      encodeDynamic(DynamicRow(codec: codec, top: top, isMoment: true), isSigned: isSigned, m, size, codes)
    } else {
      codes.update(repeating: 0, count: size)
    }
  }

  /// Asks for the floats of the block after the next one, so that memory is at work while codes are computed.
  @inline(__always)
  private static func prefetch(_ p: UnsafePointer<Float>, _ g: UnsafePointer<Float>) {
    for line in 0..<stateBlock / 16 {
      mm_prefetch(p + (2 &* stateBlock &+ 16 &* line))
      mm_prefetch(g + (2 &* stateBlock &+ 16 &* line))
    }
  }

  @inline(never)
  static func adamW8(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ codes1: UnsafeMutablePointer<UInt8>, _ absmax1: UnsafeMutablePointer<Float>,
    _ codes2: UnsafeMutablePointer<UInt8>, _ absmax2: UnsafeMutablePointer<Float>, _ signed: UnsafeRawPointer,
    _ unsigned: UnsafeRawPointer
  ) {
    let s = numbers(step)
    let (signed, unsigned) = (codec(signed), codec(unsigned))
    let rate = splat(s.learningRate * s.correction2 / s.correction1)
    let epsilon = splat(s.epsilon * s.correction2)
    let decay = splat(1 - s.learningRate * s.weightDecay)
    let (beta1, rest1) = (splat(s.beta1), splat(1 - s.beta1))
    let (beta2, rest2) = (splat(s.beta2), splat(1 - s.beta2))
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* stateBlock) { buffer in
      let m = buffer.baseAddress.unsafelyUnwrapped
      let v = m + stateBlock
      var first = 0
      while first < count {
        let size = min(stateBlock, count &- first)
        let block = first / stateBlock
        decodeDynamic(signed, isSigned: true, codes1 + first, absmax1[block], size, m)
        decodeDynamic(unsigned, isSigned: false, codes2 + first, absmax2[block], size, v)
        var (peak1, peak2) = (splat(0), splat(0))
        forEachVector(size) { j, rest in
          let i = first &+ j
          let gradient = element16(g, 0, i, rest) * splat(s.gradientScale)
          let new1 = loadFloats(m + j) * beta1 + gradient * rest1
          let new2 = loadFloats(v + j) * beta2 + gradient * gradient * rest2
          putElement16(
            p, 0, i, rest, element16(p, 0, i, rest) * decay - rate * new1 / (qt_sqrt(new2) + epsilon))
          storeFloats(m + j, new1)
          storeFloats(v + j, new2)
          peak1 = larger(peak1, magnitudes(new1, rest))
          peak2 = larger(peak2, new2)
        }
        let (top1, top2) = (largest(peak1), largest(peak2))
        absmax1[block] = top1
        absmax2[block] = top2
        prefetch(p + first, g + first)
        encodeMoments(signed, isSigned: true, top1, m, size, codes1 + first)
        encodeMoments(unsigned, isSigned: false, top2, v, size, codes2 + first)
        first &+= size
      }
    }
  }

  @inline(never)
  static func lion8(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>, _ signed: UnsafeRawPointer
  ) {
    let s = numbers(step)
    let signed = codec(signed)
    let decay = splat(1 - s.learningRate * s.weightDecay)
    let rate = splat(s.learningRate)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: stateBlock) { buffer in
      let m = buffer.baseAddress.unsafelyUnwrapped
      var first = 0
      while first < count {
        let size = min(stateBlock, count &- first)
        let block = first / stateBlock
        decodeDynamic(signed, isSigned: true, codes + first, absmax[block], size, m)
        var peak = splat(0)
        forEachVector(size) { j, rest in
          let i = first &+ j
          let gradient = element16(g, 0, i, rest) * splat(s.gradientScale)
          let moment = loadFloats(m + j)
          let direction = signs(moment * splat(s.beta1) + gradient * splat(1 - s.beta1))
          putElement16(p, 0, i, rest, element16(p, 0, i, rest) * decay - rate * direction)
          let new = moment * splat(s.beta2) + gradient * splat(1 - s.beta2)
          storeFloats(m + j, new)
          peak = larger(peak, magnitudes(new, rest))
        }
        let top = largest(peak)
        absmax[block] = top
        prefetch(p + first, g + first)
        encodeMoments(signed, isSigned: true, top, m, size, codes + first)
        first &+= size
      }
    }
  }

  @inline(__always)
  private static func signs(_ x: Vec16) -> Vec16 {
    splat(0).replacing(with: 1, where: x .> splat(0)).replacing(with: -1, where: x .< splat(0))
  }

  /// |x| of the first `count` lanes, zero beyond: a missing code decodes to the map's first entry, not to zero.
  @inline(__always)
  private static func magnitudes(_ x: Vec16, _ count: Int) -> Vec16 {
    var v = qt_abs(x)
    if count < 16 { for lane in count..<16 { v[lane] = 0 } }
    return v
  }
}
