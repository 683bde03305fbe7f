import CPUBackend
import Foundation
import Numerics
import Tensors
import Testing

/// Layer normalisation and activations without a gate against their definitions in double precision, on odd sizes,
/// every instruction set and thread count.
@Suite struct LayerNormTests {
  @Test(arguments: RowTests.widths, RowTests.types)
  func layerNormAndItsGradient(width: Int, type: DType) throws {
    let rows = 67
    var threads = SameBits()
    for backend in backends {
      // A mean that is large beside the deviation, which a sum of squares would drown.
      let x = try GuardedTensor(random: 1, [rows, width], type, scale: 3, on: backend)
      try backend.binary(.add, x.tensor, try Tensor([type == .f32 ? 300 : 3], on: backend), into: x.tensor, type)
      let weight = try GuardedTensor(random: 2, [width], on: backend)
      let bias = try GuardedTensor(random: 5, [width], on: backend)
      let dy = try GuardedTensor(random: 3, [rows, width], type, on: backend)
      let (y, dx) = (
        GuardedTensor(empty: [rows, width], type, on: backend), GuardedTensor(empty: [rows, width], type, on: backend)
      )
      let (mean, rstd) = (GuardedTensor(empty: [rows], on: backend), GuardedTensor(empty: [rows], on: backend))
      let sums = GuardedTensor(empty: [2, width], on: backend)
      let (xs, ws, bs, gs) = (try x.values(), try weight.values(), try bias.values(), try dy.values())
      var (wantedY, wantedX) = ([Double](), [Double]())
      var wantedSums = [Double](repeating: 0, count: 2 * width)
      for r in 0..<rows {
        let row = (0..<width).map { Double(xs[r * width + $0]) }
        let middle = row.reduce(0, +) / Double(width)
        let centred = row.map { $0 - middle }
        let scale = 1 / (centred.reduce(0) { $0 + $1 * $1 } / Double(width) + 1e-5).squareRoot()
        let g = (0..<width).map { Double(gs[r * width + $0]) * Double(ws[$0]) }
        let plain = g.reduce(0, +) / Double(width)
        let along = zip(g, centred).reduce(0) { $0 + $1.0 * $1.1 * scale } / Double(width)
        for c in 0..<width {
          let n = centred[c] * scale
          wantedY.append(n * Double(ws[c]) + Double(bs[c]))
          wantedX.append(scale * (g[c] - plain - n * along))
          wantedSums[c] += Double(gs[r * width + c]) * n
          wantedSums[width + c] += Double(gs[r * width + c])
        }
      }
      try backend.layerNorm(
        x.tensor, weight: weight.tensor, bias: bias.tensor, epsilon: 1e-5, into: y.tensor, mean: mean.tensor,
        rstd: rstd.tensor)
      try backend.layerNormBackward(
        dy.tensor, x.tensor, weight: weight.tensor, mean: mean.tensor, rstd: rstd.tensor, into: dx.tensor,
        sums: sums.tensor)
      // In one column all is the mean, and what is left of it is divided by the root of epsilon alone.
      let slack = type == .f32 ? 5e-5 : tolerance(type)
      #expect(largestError(try y.values(), wantedY) < slack)
      if width > 1 { #expect(largestError(try dx.values(), wantedX) < slack) }
      #expect(largestError(try sums.values(), wantedSums) < 1e-4)
      try threads.check([y, mean, rstd, dx, sums], on: backend)
      let alone = GuardedTensor(empty: [rows, width], type, on: backend)
      try backend.layerNormBackward(
        dy.tensor, x.tensor, weight: weight.tensor, mean: mean.tensor, rstd: rstd.tensor, into: alone.tensor, sums: nil)
      #expect(try alone.values() == dx.values())
      for tensor in [y, mean, rstd, dx, sums, alone] { #expect(tensor.isIntact) }
    }
  }

  @Test(arguments: [1, 15, 16, 4099].flatMap { n in Activation.allCases.map { (n, $0) } }, RowTests.types)
  func activationsAndTheirGradients(of c: (count: Int, activation: Activation), type: DType) throws {
    let (count, activation) = c
    for backend in backends {
      let x = try GuardedTensor(random: 1, [count], type, scale: 6, on: backend)
      let dy = try GuardedTensor(random: 3, [count], type, on: backend)
      let (y, dx) = (GuardedTensor(empty: [count], type, on: backend), GuardedTensor(empty: [count], type, on: backend))
      try backend.activated(activation, x.tensor, into: y.tensor)
      try backend.activatedBackward(activation, dy.tensor, x.tensor, into: dx.tensor)
      let wanted = try x.values().map { activation.definition(Double($0)) }
      #expect(largestError(try y.values(), wanted.map(\.value)) < tolerance(type))
      #expect(
        largestError(try dx.values(), zip(try dy.values(), wanted).map { Double($0) * $1.slope }) < tolerance(type))
      #expect(y.isIntact && dx.isIntact)
    }
  }

  /// Far below zero the product of a large number and a tiny one keeps its digits; far above it is the number itself.
  @Test func geluKeepsItsTails() throws {
    for backend in backends {
      let values: [Float] = [-12, -8, -4, -1e-3, 0, 1e-3, 9, 100, 1e10]
      let y = try Tensor(empty: [values.count], on: backend)
      try backend.activated(.gelu, try Tensor(values, on: backend), into: y)
      for (x, got) in zip(values, try y.floats()) {
        let wanted = Activation.gelu.definition(Double(x)).value
        #expect(abs(Double(got) - wanted) <= 2e-5 * abs(wanted), "gelu(\(x)) = \(got), not \(wanted)")
      }
    }
  }
}

extension Backend {
  /// x + y, rounded to the dtype of x and stored there.
  fileprivate func binary(_ operation: BinaryOperation, _ x: Tensor, _ y: Tensor, into z: Tensor, _: DType) throws {
    let sum = try Tensor(empty: x.shape, on: self)
    try binary(operation, x, y, into: sum)
    try copy(sum, into: z)
  }
}
