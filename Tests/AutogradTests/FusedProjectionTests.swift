import Tensors
import Testing

@testable import Autograd

/// Rules of layers with fused projections, LayerNorm and soft caps, against central differences.
@Suite struct FusedProjectionTests {
  @Test func layerNormAndPlainActivations() throws {
    let x = try sample([4, 9])
    let parameters = [try sample([9], seed: 2, low: 0.5, high: 1.5), try sample([9], seed: 3)]
    try checkGradients("layer_norm", inputs: [x] + parameters) {
      try layerNorm($0[0], weight: $0[1], bias: $0[2], epsilon: 1e-3)
    }
    for activation in Activation.allCases {
      try checkGradients("activated \(activation)", inputs: [x]) { try activated(activation, $0[0]) }
    }
    try checkGradients("soft_cap", inputs: [x]) { try softCapped($0[0], 0.4) }
    #expect(throws: TensorError.self) {
      try layerNorm(x, weight: parameters[0], bias: try sample([8]), epsilon: 1e-3)
    }
  }

  /// Parts of rows, and of every group of a row; the gradient of a part that nothing reads is zero.
  @Test(arguments: [1, 3]) func splitColumnsAndTheirGradients(groups: Int) throws {
    let widths = [2, 1, 3]
    let x = try sample([5, groups * 6])
    let parts = try splitColumns(x, groups: groups, widths: widths)
    let values = try x.floats()
    for (index, part) in parts.enumerated() {
      let start = widths[..<index].reduce(0, +)
      let wanted = (0..<5 * groups).flatMap { group in (0..<widths[index]).map { values[group * 6 + start + $0] } }
      #expect(try part.floats() == wanted && part.shape == [5, groups * widths[index]] && part.isContiguous)
    }
    for used in [[0, 1, 2], [2], [1, 0]] {
      try checkGradients("split", inputs: [x]) {
        let parts = try splitColumns(try unary(.square, $0[0]), groups: groups, widths: widths)
        return try concatenate(used.map { parts[$0] }, axis: 1)
      }
    }
    #expect(throws: TensorError.self) { try splitColumns(x, groups: groups, widths: [2, 1]) }
  }
}
