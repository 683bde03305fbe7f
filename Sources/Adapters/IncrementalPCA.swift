import Autograd
import Models
import Tensors

/// The leading principal components of rows that come in parts, as PEFT's IncrementalPCA keeps them (Ross et al. 2008):
/// each part is decomposed together with what stands for those before it.
struct IncrementalPCA {
  /// Rows and columns up to which a part is decomposed to the last bit; 16 power iterations beyond.
  private static let exactSize = 64

  /// Components that are kept.
  let count: Int
  /// [count, width], orthonormal rows, the largest element of each positive; nil before the first part.
  private(set) var components: DenseMatrix?
  /// Singular values of all rows so far, descending.
  private(set) var values: [Double] = []
  /// Sum of squared distances from the mean, of all rows so far.
  private var scatter = 0.0
  private var mean: [Double] = []
  private var seen = 0
  private let stream: RandomStream

  init(count: Int, _ stream: RandomStream) {
    self.count = count
    self.stream = stream
  }

  /// The share of each component in the variance of all rows.
  var ratios: [Double] { values.map { scatter > 0 ? $0 * $0 / scatter : 0 } }

  /// Takes in rows [n, width], at least `count`.
  mutating func fit(_ rows: [Float], width: Int, on backend: any Backend) throws {
    let added = rows.count / width
    var own = [Double](repeating: 0, count: width)
    for index in rows.indices { own[index % width] += Double(rows[index]) }
    for column in own.indices { own[column] /= Double(added) }
    var stacked = [Float]()
    if let components {
      for row in 0..<count {
        for column in 0..<width { stacked.append(Float(values[row] * components[row, column])) }
      }
    }
    for index in rows.indices {
      let centred = Double(rows[index]) - own[index % width]
      scatter += centred * centred
      stacked.append(Float(centred))
    }
    let total = seen + added
    if seen > 0 {
      // The means of the parts differ: one more row says so.
      let factor = (Double(seen) / Double(total) * Double(added)).squareRoot()
      for column in own.indices {
        let apart = factor * (mean[column] - own[column])
        scatter += apart * apart
        stacked.append(Float(apart))
        own[column] = (mean[column] * Double(seen) + own[column] * Double(added)) / Double(total)
      }
    }
    (mean, seen) = (own, total)
    let matrix = try Tensor(stacked, shape: [stacked.count / width, width], on: backend)
    let found =
      min(matrix.shape[0], width) <= Self.exactSize
      ? try DenseMatrix(matrix).leading(count) : try LoRA.approximated(matrix, rank: count, 16, stream)
    values = found.values
    let right = found.right
    let signs = (0..<count).map { k in
      let largest = (0..<width).max { right[$0, k].magnitude < right[$1, k].magnitude } ?? 0
      return right[largest, k] < 0 ? -1.0 : 1.0
    }
    components = DenseMatrix(rows: count, columns: width) { right[$1, $0] * signs[$0] }
  }

  /// The cosine between each component and that of an earlier state.
  func cosines(with earlier: DenseMatrix) -> [Double] {
    guard let components else { return [] }
    return (0..<count).map { row in
      (0..<components.columns).reduce(0) { $0 + components[row, $1] * earlier[row, $1] }
    }
  }
}
