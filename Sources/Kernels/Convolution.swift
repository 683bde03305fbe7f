import CPlatform
import Numerics

// The short causal convolution of recurrent layers, one channel beside the other, with SiLU behind it.

extension Kernels {
  /// sum over j of weight[j] * x[row - taps + 1 + j] of sixteen channels.
  @inline(__always)
  private static func channelSums(
    _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafePointer<Float>, _ taps: Int, _ channels: Int, _ row: Int,
    _ column: Int, _ rest: Int
  ) -> Vec16 {
    let size = type == 0 ? 4 : 2
    var sum = splat(0)
    for tap in max(0, taps &- 1 &- row)..<taps {
      let from = x + (row &- taps &+ 1 &+ tap) &* channels &* size
      sum = madd(
        element16(from, type, column, rest), element16(weight + tap &* channels, 0, column, rest), sum)
    }
    return sum
  }

  @inline(never)
  static func convolution(
    _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafePointer<Float>, _ taps: Int, _ channels: Int, _ first: Int,
    _ count: Int, _ y: UnsafeMutableRawPointer
  ) {
    let size = type == 0 ? 4 : 2
    for row in first..<first &+ count {
      let target = y + row &* channels &* size
      @inline(always) func step(_ j: Int, _ rest: Int) {
        let sum = channelSums(x, type, weight, taps, channels, row, j, rest)
        putElement16(target, type, j, rest, sum * sigmoid(Vec64(repeating: sum)).a)
      }
      forEachVector(channels, step)
    }
  }

  @inline(never)
  static func convolutionSlopes(
    _ dy: UnsafeRawPointer, _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafePointer<Float>, _ taps: Int,
    _ channels: Int, _ first: Int, _ count: Int, _ slopes: UnsafeMutablePointer<Float>
  ) {
    let size = type == 0 ? 4 : 2
    for row in first..<first &+ count {
      let at = row &* channels
      @inline(always) func step(_ j: Int, _ rest: Int) {
        let sum = channelSums(x, type, weight, taps, channels, row, j, rest)
        let s = sigmoid(Vec64(repeating: sum)).a
        let slope = s * madd(sum, splat(1) - s, splat(1))
        putElement16(slopes + at, 0, j, rest, element16(dy + at &* size, type, j, rest) * slope)
      }
      forEachVector(channels, step)
    }
  }

  @inline(never)
  static func convolutionInputs(
    _ slopes: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ taps: Int, _ channels: Int, _ rows: Int,
    _ first: Int, _ count: Int, _ dx: UnsafeMutableRawPointer, _ type: Int32
  ) {
    let size = type == 0 ? 4 : 2
    for row in first..<first &+ count {
      let later = min(taps, rows &- row)
      @inline(always) func step(_ j: Int, _ rest: Int) {
        var sum = splat(0)
        for behind in 0..<later {
          sum = madd(
            element16(slopes + (row &+ behind) &* channels, 0, j, rest),
            element16(weight + (taps &- 1 &- behind) &* channels, 0, j, rest), sum)
        }
        putElement16(dx + row &* channels &* size, type, j, rest, sum)
      }
      forEachVector(channels, step)
    }
  }

  @inline(never)
  static func convolutionWeights(
    _ slopes: UnsafePointer<Float>, _ x: UnsafeRawPointer, _ type: Int32, _ taps: Int, _ channels: Int, _ rows: Int,
    _ first: Int, _ count: Int, _ dWeight: UnsafeMutablePointer<Float>
  ) {
    let size = type == 0 ? 4 : 2
    for tap in 0..<taps {
      @inline(always) func step(_ j: Int, _ rest: Int) {
        let column = first &+ j
        var sum = element16(dWeight + tap &* channels, 0, column, rest)
        var row = taps &- 1 &- tap
        while row < rows {
          sum = madd(
            element16(slopes + row &* channels, 0, column, rest),
            element16(x + (row &- taps &+ 1 &+ tap) &* channels &* size, type, column, rest), sum)
          row &+= 1
        }
        putElement16(dWeight + tap &* channels, 0, column, rest, sum)
      }
      forEachVector(count, step)
    }
  }

  /// Stores this build's functions of recurrent layers.
  package static func fill(recurrent table: UnsafeMutablePointer<RecurrentKernels>) {
    table.initialize(
      to: RecurrentKernels(
        convolution: { Kernels.convolution($0, $1, $2, $3, $4, $5, $6, $7) },
        convolutionSlopes: { Kernels.convolutionSlopes($0, $1, $2, $3, $4, $5, $6, $7, $8) },
        convolutionInputs: { Kernels.convolutionInputs($0, $1, $2, $3, $4, $5, $6, $7, $8) },
        convolutionWeights: { Kernels.convolutionWeights($0, $1, $2, $3, $4, $5, $6, $7, $8) },
        forward: { Kernels.deltaForward($0) }, backward: { Kernels.deltaBackward($0) }))
  }
}
