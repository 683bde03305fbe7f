import Formats
import Models
import Optimizers
import Tokenizers

/// An object whose `tostring` says what it is.
protocol LuaDescribed {
  var luaText: String { get }
}

extension Module: LuaDescribed {
  var luaText: String { "Module \(text)" }
}

extension QuantizedTensor: LuaDescribed {
  var luaText: String {
    let shape = operand.shape.map(String.init).joined(separator: " x ")
    let scales = operand.nested == nil ? "f32 scales" : "scales quantized"
    let bits = TensorText.decimals(operand.bitsPerParameter, 3)
    return "[\(operand.kind.rawValue) \(shape), blocks of \(operand.blockSize), \(scales), "
      + "\(grouped(operand.byteCount)) bytes, \(bits) bits per parameter]"
  }
}

extension OptimizerObject: LuaDescribed {
  var luaText: String {
    let count = parameters.reduce(0) { $0 + $1.tensor.elementCount }
    return "Optimizer \(options.rule.title): lr \(TensorText.short(Double(options.learningRate))), \(options.bits)-bit"
      + "\(options.isPaged ? ", paged" : "") state, \(grouped(count)) parameters in \(parameters.count) tensors"
  }
}

extension Tokenizer: LuaDescribed {
  var luaText: String {
    let named = [("bos", bos), ("eos", eos), ("pad", pad)].compactMap { name, id in
      id.map { "\(name) \($0)\(token($0).map { " \"\($0)\"" } ?? "")" }
    }
    return "Tokenizer: \((["\(grouped(vocabularySize)) tokens"] + named).joined(separator: ", "))"
  }
}

extension Samples: LuaDescribed {
  var luaText: String { "Samples: \(grouped(count)), \(grouped(statistics.tokens)) tokens" }
}

extension BatchObject: LuaDescribed {
  var luaText: String {
    "Batch: \(batch.segments.count - 1) sequences, \(batch.tokenCount) tokens, \(batch.trainedTokenCount) trained, "
      + "longest \(batch.longestSequence)"
  }
}
