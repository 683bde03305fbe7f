import Foundation
import Numerics
import Tensors

extension HandleBackend {
  func embedding(_ table: Tensor, ids: Tensor, weights: Tensor?, into rows: Tensor) throws {
    let (source, width, factors) = (values(table), table.shape[1], weights.map(values))
    set(
      rows,
      integers(ids).enumerated().flatMap { row, id in
        source[id * width..<(id + 1) * width].map { $0 * (factors?[row] ?? 1) }
      })
  }

  func embeddingBackward(_ parts: [Tensor], ids: Tensor, weights: Tensor?, into dTable: Tensor) throws {
    var sums = values(dTable)
    let (gradient, width, factors) = (parts.flatMap(values), dTable.shape[1], weights.map(values))
    for (row, id) in integers(ids).enumerated() {
      for column in 0..<width { sums[id * width + column] += (factors?[row] ?? 1) * gradient[row * width + column] }
    }
    set(dTable, sums)
  }

  func rope(
    _ x: Tensor, heads: Int, headDim: Int, cosine: Tensor, sine: Tensor, positions: Tensor, inverse: Bool
  ) throws {
    var turned = values(x)
    let (cosines, sines, half) = (values(cosine), values(sine), cosine.shape[1])
    for (token, position) in integers(positions).enumerated() {
      for head in 0..<heads {
        let first = (token * heads + head) * headDim
        for index in 0..<half {
          let (c, s) = (cosines[position * half + index], sines[position * half + index] * (inverse ? -1 : 1))
          let (a, b) = (turned[first + index], turned[first + half + index])
          turned[first + index] = a * c - b * s
          turned[first + half + index] = b * c + a * s
        }
      }
    }
    set(x, turned)
  }

  func crossEntropy(_ logits: Tensor, labels: Tensor, losses: Tensor, gradientScale: Float?) throws {
    let (source, width) = (values(logits), logits.shape[1])
    var (sums, gradient) = ([Double](), [Double]())
    for (row, label) in integers(labels).enumerated() {
      let scores = source[row * width..<(row + 1) * width]
      let peak = scores.max() ?? 0
      let exponentials = scores.map { exp($0 - peak) }
      let total = exponentials.reduce(0, +)
      sums.append(label < 0 ? 0 : log(total) + peak - source[row * width + label])
      gradient += exponentials.enumerated().map { column, e in
        label < 0 ? 0 : Double(gradientScale ?? 0) * (e / total - (column == label ? 1 : 0))
      }
    }
    set(losses, sums)
    if gradientScale != nil { set(logits, gradient) }
  }

  // MARK: Optimizers

  /// 32-bit state in double precision; 8-bit state block by block in f32, as bitsandbytes.
  func update(
    _ update: OptimizerUpdate, parameter: Tensor, gradient: Tensor, state: [Tensor], step: Int, gradientScale: Float
  ) throws {
    let (p, g) = (floats(parameter), floats(gradient).map { $0 * gradientScale })
    let (b1, b2, rate) = (update.beta1, update.beta2, update.learningRate)
    let c1 = Float(1 - pow(Double(b1), Double(step)))
    let c2 = Float((1 - pow(Double(b2), Double(step))).squareRoot())
    let decay = 1 - rate * update.weightDecay
    func mixed(_ old: [Float], _ new: [Float], _ beta: Float) -> [Float] {
      zip(old, new).map { $0 * beta + $1 * (1 - beta) }
    }
    func put(_ tensor: Tensor, _ values: [Float]) { set(tensor, values.map { Double($0) }) }
    let squares = g.map { $0 * $0 }
    func adam(_ m: [Float], _ v: [Float]) -> [Float] {
      p.indices.map { p[$0] * decay - rate * c2 / c1 * m[$0] / (v[$0].squareRoot() + update.epsilon * c2) }
    }
    func lion(_ m: [Float]) -> [Float] {
      zip(p, mixed(m, g, b1)).map { $0 * decay - rate * ($1 > 0 ? 1 : $1 < 0 ? -1 : 0) }
    }
    switch update.kernel {
    case .adamW:
      let (m, v) = (mixed(floats(state[0]), g, b1), mixed(floats(state[1]), squares, b2))
      put(parameter, adam(m, v))
      put(state[0], m)
      put(state[1], v)
    case .adamW8:
      let m = mixed(moment(state[0], state[1], DynamicMap.signed), g, b1)
      let v = mixed(moment(state[2], state[3], DynamicMap.unsigned), squares, b2)
      put(parameter, adam(m, v))
      keep(m, state[0], state[1], DynamicMap.signed)
      keep(v, state[2], state[3], DynamicMap.unsigned)
    case .lion:
      let m = floats(state[0])
      put(parameter, lion(m))
      put(state[0], mixed(m, g, b2))
    case .lion8:
      let m = moment(state[0], state[1], DynamicMap.signed)
      put(parameter, lion(m))
      keep(mixed(m, g, b2), state[0], state[1], DynamicMap.signed)
    case .sgd:
      let v = zip(floats(state[0]), zip(g, p)).map { $0 * b1 + $1.0 + update.weightDecay * $1.1 }
      put(parameter, zip(p, v).map { $0 - rate * $1 })
      put(state[0], v)
    }
  }

  private func moment(_ codes: Tensor, _ maxima: Tensor, _ map: [Float]) -> [Float] {
    let peaks = floats(maxima)
    return integers(codes).enumerated().map { map[$1] * peaks[$0 / DynamicMap.stateBlockSize] }
  }

  /// A negative value never gets the code of zero, so that its sign stays.
  private func keep(_ values: [Float], _ codes: Tensor, _ maxima: Tensor, _ map: [Float]) {
    var (bytes, peaks) = ([Double](), [Double]())
    for start in stride(from: 0, to: values.count, by: DynamicMap.stateBlockSize) {
      let block = values[start..<min(values.count, start + DynamicMap.stateBlockSize)]
      let peak = block.reduce(0) { max($0, $1.magnitude) }
      peaks.append(Double(peak))
      bytes += block.map { value in
        let code = peak > 0 ? nearest(value / peak, map) : 0
        return Double(value < 0 && code == 127 ? 126 : code)
      }
    }
    set(codes, bytes)
    set(maxima, peaks)
  }
}
