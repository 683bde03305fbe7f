import CPUBackend
import Tensors
import Testing

@testable import Autograd

/// Compares the gradients that `backward` gives with central differences of `f`, for every element of every input.
///
/// Arithmetic is f32, so the step is large (h = 1e-2 changes a value of order one by far more than its rounding), the
/// sum is taken in double, and the tolerance is relative to the larger of one and the gradient: the error is
/// h^2 f'''/6 + eps f / h, at most 3e-4 for the functions and inputs of these tests.
func checkGradients(
  _ name: String, inputs: [Tensor], step: Float = 1e-2, tolerance: Double = 1e-3, skip: Set<Int> = [],
  _ f: ([Tensor]) throws -> Tensor, sourceLocation: SourceLocation = #_sourceLocation
) throws {
  for (index, input) in inputs.enumerated() where !skip.contains(index) {
    input.requiresGradient = true
    input.gradient = nil
  }
  let y = try f(inputs)
  let weights = try projection(y)
  let factors = try weights.floats()
  try (try reduce(.sum, try binary(.multiply, y, weights))).backward()
  for (index, input) in inputs.enumerated() where !skip.contains(index) {
    let analytic = try #require(
      input.gradient, "\(name): input \(index) got no gradient", sourceLocation: sourceLocation
    )
    .floats()
    for element in 0..<input.elementCount {
      let numeric = try GradientMode.disabled { () -> Double in
        let middle = try input.floats()[element]
        func value(_ place: Float) throws -> Double {
          try set(input, element, place)
          defer { try? set(input, element, middle) }
          return zip(try f(inputs).floats(), factors).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }
        // The distance that f32 makes of two steps.
        let (above, below) = (middle + step, middle - step)
        return (try value(above) - value(below)) / (Double(above) - Double(below))
      }
      let error = abs(numeric - Double(analytic[element]))
      #expect(
        error <= tolerance * max(1, abs(numeric)),
        "\(name): input \(index) element \(element): analytic \(analytic[element]), numeric \(numeric)",
        sourceLocation: sourceLocation)
    }
    input.requiresGradient = false
    input.gradient = nil
  }
}

/// Fixed weights that make a scalar of any result, so that no gradient cancels by symmetry.
private func projection(_ y: Tensor) throws -> Tensor {
  let values = (0..<y.elementCount).map { Float(($0 * 37 + 11) % 17) / 8 - 1 }
  return try Tensor(values, shape: y.shape, on: y.backend)
}

private func set(_ tensor: Tensor, _ element: Int, _ value: Float) throws {
  try tensor.withMutableHostBytes { $0.bindMemory(to: Float.self)[element] = value }
}

/// Reproducible values in [low, high).
func sample(_ shape: [Int], seed: UInt64 = 1, low: Float = -1, high: Float = 1) throws -> Tensor {
  var state = seed &* 0x9E37_79B9_7F4A_7C15
  let values = (0..<shape.reduce(1, *)).map { _ -> Float in
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return low + (high - low) * Float(state >> 40) * 0x1p-24
  }
  return try Tensor(values, shape: shape, on: testBackend)
}

let testBackend = CPUBackend(threadCount: 2)
