import Glibc
import Tensors

/// What a parameter of a new model begins with.
package enum InitialWeight: Sendable, Equatable {
  /// Random numbers around 0.
  case random
  /// One number.
  case constant(Double)
  /// The logarithms of numbers spread evenly over 0 to 16: rates of decay of heads.
  case spreadLogarithms

  /// The numbers; nil for random ones.
  func values(count: Int) -> [Float]? {
    switch self {
    case .random: nil
    case .constant(let value): [Float](repeating: Float(value), count: count)
    case .spreadLogarithms: (0..<count).map { Float(log(16 * (Double($0) + 0.5) / Double(count))) }
    }
  }
}

extension Module {
  /// The weight of a new model where it is not random.
  func initialTensor(_ dtype: DType, _ category: MemoryCategory, on backend: any Backend) throws -> Tensor? {
    try initial.values(count: weightShape.reduce(1, *)).map {
      let values = try Tensor($0, shape: weightShape, category: category, on: backend)
      return dtype == .f32 ? values : try values.converted(to: dtype, category: category)
    }
  }
}
