import Formats
import Quantization
import Tensors

/// How far a quantized matrix is from the weights in the file.
package struct QuantizationReport: Sendable {
  package let module: String
  /// Root of the mean squared difference.
  package let rmse: Double
  /// Largest difference.
  package let maximum: Double
  /// RMSE over the root mean square of the original weights.
  package let relative: Double
  /// Stored bits per weight, with all statistics.
  package let bitsPerParameter: Double
}

extension LanguageModel {
  /// Compares quantized matrices with the file they were read from, one tensor at a time: the peak is two f32
  /// copies of the largest.
  /// - Parameter names: modules; all quantized ones when nil.
  /// - Returns: one report for each, in the order of the names or of the modules.
  /// - Throws: `noOriginalWeights` where the file holds no wider weights; `unknownModule`.
  package func quantizationReports(of names: [String]? = nil) throws -> [QuantizationReport] {
    let chosen = try names?.map { name -> Module in
      guard let module = module(name) else {
        throw ModelError.unknownModule(name: name, nearest: nearestModules(to: name))
      }
      return module
    }
    let quantized = (chosen ?? modules).filter { $0.quantized != nil }
    if let module = chosen?.first(where: { $0.blocks != nil }) {
      throw ModelError.noOriginalWeights(path: path, problem: .kept(module: module.name))
    }
    if let module = chosen?.first(where: { $0.quantized == nil }) {
      throw ModelError.noOriginalWeights(path: path, problem: .notQuantized(module: module.name))
    }
    guard !quantized.isEmpty else {
      throw ModelError.noOriginalWeights(path: path, problem: .nothingQuantized)
    }
    guard !options.smoke, let location = try? ModelLocation(path, allowsKnownNames: false) else {
      throw ModelError.noOriginalWeights(path: path, problem: .notFromFile)
    }
    let source = try location.weights()
    return try quantized.map { try report($0, source) }
  }

  private func report(_ module: Module, _ source: LoadedSource) throws -> QuantizationReport {
    let name = module.weightName
    guard let operand = module.quantized else { throw ModelError.notLoaded(module: module.name) }
    let stored = FourBitKind.allCases.contains { source.contains("\(name).quant_state.bitsandbytes__\($0.rawValue)") }
    if stored {
      throw ModelError.noOriginalWeights(path: path, problem: .storedQuantized(module: module.name))
    }
    try source.expect(name, shape: module.weightShape)
    let original = try Tensor(empty: module.weightShape, category: .workspace, on: backend)
    try original.withMutableHostBytes { bytes in
      guard let base = bytes.bindMemory(to: Float.self).baseAddress else { return }
      try source.read(name, into: base)
    }
    source.release(name)
    let decoded = try operand.dequantized(category: .workspace)
    var (squares, size, maximum) = (0.0, 0.0, Float(0))
    try original.withHostBytes { a in
      try decoded.withHostBytes { b in
        for (x, y) in zip(a.bindMemory(to: Float.self), b.bindMemory(to: Float.self)) {
          let difference = (x - y).magnitude
          squares += Double(difference) * Double(difference)
          size += Double(x) * Double(x)
          maximum = max(maximum, difference)
        }
      }
    }
    let count = Double(max(1, original.elementCount))
    return QuantizationReport(
      module: module.name, rmse: (squares / count).squareRoot(), maximum: Double(maximum),
      relative: size > 0 ? (squares / size).squareRoot() : 0, bitsPerParameter: operand.bitsPerParameter)
  }
}
