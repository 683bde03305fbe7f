import Glibc
import Tensors

/// Cosines and sines of the rotary embedding, f32 [positions, headDim / 2], grown on demand.
///
/// Frequencies are computed in f32 in the order of transformers' `_compute_default_rope_parameters` and
/// `_compute_llama3_parameters`, so that the tables agree to the last bit or nearly so.
final class RotaryTables {
  private let frequencies: [Float]
  private let backend: any Backend
  private(set) var cosine: Tensor
  private(set) var sine: Tensor

  init(_ rope: Rope, headDimension: Int, backend: any Backend) throws {
    self.backend = backend
    self.frequencies = rope.frequencies(headDimension: headDimension)
    self.cosine = try Tensor(empty: [0, frequencies.count], on: backend)
    self.sine = try Tensor(empty: [0, frequencies.count], on: backend)
  }

  /// Makes the tables cover `count` positions.
  func reserve(_ count: Int) throws {
    guard count > cosine.shape[0] else { return }
    let rows = max(count, 2 * cosine.shape[0], 64)
    let half = frequencies.count
    var cosines = [Float](repeating: 0, count: rows * half)
    var sines = cosines
    for position in 0..<rows {
      for index in 0..<half {
        let angle = Double(Float(position) * frequencies[index])
        cosines[position * half + index] = Float(cos(angle))
        sines[position * half + index] = Float(sin(angle))
      }
    }
    cosine = try Tensor(cosines, shape: [rows, half], category: .workspace, on: backend)
    sine = try Tensor(sines, shape: [rows, half], category: .workspace, on: backend)
  }
}

extension Rope {
  /// Radians per position of each pair of elements, f32.
  func frequencies(headDimension: Int) -> [Float] {
    let base = Float(theta)
    let plain = (0..<headDimension / 2).map { 1 / powf(base, Float(2 * $0) / Float(headDimension)) }
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .llama3(let factor, let lowFactor, let highFactor, let original):
      let lowWavelength = Float(original) / Float(lowFactor)
      let highWavelength = Float(original) / Float(highFactor)
      return plain.map { frequency in
        let wavelength = 2 * Float.pi / frequency
        if wavelength < highWavelength { return frequency }
        let slow = frequency / Float(factor)
        if wavelength > lowWavelength { return slow }
        let smooth =
          (Float(original) / wavelength - Float(lowFactor)) / Float(highFactor - lowFactor)
        return (1 - smooth) * slow + smooth * frequency
      }
    }
  }
}
