import Glibc

// The causal convolution and the gated delta rule of recurrent layers, element by element on the host: the form of a
// device without kernels for them, and what the kernels of one are tested against.

extension Backend {
  /// Works through copies of the operands on the host.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers; what the device
  ///   reports.
  public func causalConvolution(_ x: Tensor, weight: Tensor, segments: Tensor, into y: Tensor) throws {
    let sums = try channelSums(x, weight, segments)
    try copy(try Tensor(sums.map { $0 * sigmoid($0) }, shape: y.shape, category: .workspace, on: self), into: y)
  }

  /// Works through copies of the operands on the host.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers; what the device
  ///   reports.
  public func causalConvolutionBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, segments: Tensor, dx: Tensor, dWeight: Tensor?
  ) throws {
    let (taps, channels) = (weight.shape[0], weight.shape[1])
    let slopes = zip(try channelSums(x, weight, segments), try dy.floats()).map { sum, dy in
      let s = sigmoid(sum)
      return dy * s * (1 + sum * (1 - s))
    }
    let (values, weights) = (try x.floats(), try weight.floats())
    var dValues = [Float](repeating: 0, count: values.count)
    var dWeights = [Float](repeating: 0, count: weights.count)
    for (start, end) in try borders(segments) {
      for row in start..<end {
        for tap in 0..<taps {
          let from = row - taps + 1 + tap
          guard from >= start else { continue }
          for channel in 0..<channels {
            let slope = slopes[row * channels + channel]
            dValues[from * channels + channel] += slope * weights[tap * channels + channel]
            dWeights[tap * channels + channel] += slope * values[from * channels + channel]
          }
        }
      }
    }
    try copy(try Tensor(dValues, shape: dx.shape, category: .workspace, on: self), into: dx)
    guard let dWeight else { return }
    try copy(try Tensor(dWeights, shape: dWeight.shape, category: .workspace, on: self), into: dWeight)
  }

  /// What SiLU is applied to.
  private func channelSums(_ x: Tensor, _ weight: Tensor, _ segments: Tensor) throws -> [Float] {
    let (taps, channels) = (weight.shape[0], weight.shape[1])
    let (values, weights) = (try x.floats(), try weight.floats())
    var sums = [Float](repeating: 0, count: values.count)
    for (start, end) in try borders(segments) {
      for row in start..<end {
        for tap in 0..<taps {
          let from = row - taps + 1 + tap
          guard from >= start else { continue }
          for channel in 0..<channels {
            sums[row * channels + channel] += weights[tap * channels + channel] * values[from * channels + channel]
          }
        }
      }
    }
    return sums
  }

  /// First row and end of each sequence.
  func borders(_ segments: Tensor) throws -> [(Int, Int)] {
    let starts = try segments.integers()
    return Array(zip(starts, starts.dropFirst()))
  }
}

private func sigmoid(_ x: Float) -> Float { 1 / (1 + exp(-x)) }
