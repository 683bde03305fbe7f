import Formats
import Tensors

/// What is stored in 4 bits stays as it is, so options that ask for another form are errors, never ignored.
extension LoadOptions {
  /// Compares the options that were given with a matrix that a file holds in 4 bits.
  /// - Throws: `ModelError.badQuantization` naming the option and both values.
  func check(_ stored: QuantizedOperand, _ tensor: String, of module: Module, path: String) throws {
    if let own = moduleQuantization[module.name] {
      guard own == stored.kind else {
        throw ModelError.badQuantization(tensor: tensor, path: path, problem: .storedAs(stored.kind))
      }
    } else if let quantization {
      try compare("quant", stored.kind.rawValue, quantization.rawValue, tensor, path)
    }
    try compare("block", stored.blockSize, wantedBlockSize, tensor, path)
    try compare("double_quant", stored.nested != nil, wantsDoubleQuantization, tensor, path)
    // The codes are there; which rule found them is written nowhere.
    if scaleRule != .nearest {
      try compare("double_quant", "\(stored.nested != nil)", scaleRule.rawValue, tensor, path)
    }
  }

  /// The same for a model of which only the configuration is read, as far as it says.
  func check(_ configuration: JSON?, path: String) throws {
    guard let configuration, configuration["load_in_4bit"]?.bool == true else { return }
    let name = FileName.config
    if let kind = configuration["bnb_4bit_quant_type"]?.string {
      try compare("quant", kind, quantization?.rawValue, name, path)
    }
    if let isDouble = configuration["bnb_4bit_use_double_quant"]?.bool {
      try compare("double_quant", isDouble, wantsDoubleQuantization, name, path)
      if scaleRule != .nearest { try compare("double_quant", "\(isDouble)", scaleRule.rawValue, name, path) }
    }
  }

  private func compare<Value: Equatable>(
    _ option: String, _ stored: Value, _ asked: Value?, _ tensor: String, _ path: String
  ) throws {
    guard let asked, asked != stored else { return }
    throw ModelError.badQuantization(
      tensor: tensor, path: path, problem: .storedWith(option: option, stored: "\(stored)", asked: "\(asked)"))
  }
}
