import Glibc

/// What can go wrong with a model, as data.
public enum ModelError: Error, Equatable, Sendable {
  case notLoaded(module: String)
  case headerOnly(operation: String)
  case unknownModule(name: String, nearest: [String])
  case tokenOutOfRange(id: Int, vocabulary: Int)
  case emptyInput(operation: String)
  case tooLong(tokens: Int, limit: Int)
  case noTrainedTokens
  case noSuchSample(number: Int, count: Int)
  case nonFiniteWeight(tensor: String, index: Int, path: String)
  case missingTensor(name: String, path: String)
  case badQuantization(tensor: String, path: String, reason: String)
  case badOption(name: String, value: String, expected: String)
  case noTokenizer(path: String)
  case unrecognisedPath(path: String)
  case badReplacement(module: String, expected: [Int], got: [Int])
  case badAdapterOutput(module: String, expected: [Int], got: [Int])
  case recursiveHook(module: String)
  case noSuchLayer(layer: Int, count: Int)
  case tooFewTokens(operation: String, minimum: Int)
  case noOriginalWeights(path: String, reason: String)
  case cannotStream(path: String)
  case unreadableWeights(path: String, layer: Int, code: Int32)
  case streamedNeedsCheckpointing
  case streamedInterval(layers: Int)
}

extension ModelError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notLoaded(let module):
      "\(module): this module has no weights; the model was read from its header only"
    case .headerOnly(let operation):
      "\(operation): the model was read from its header only (--plan); load the weights to compute"
    case .unknownModule(let name, let nearest):
      "no module is called '\(name)'" + (nearest.isEmpty ? "" : "; nearest: \(nearest.joined(separator: ", "))")
    case .tokenOutOfRange(let id, let vocabulary):
      "token id \(id) is outside the vocabulary of \(vocabulary) (ids are 0..\(vocabulary - 1)); encode the text with "
        + "this model's own tokenizer"
    case .emptyInput(let operation):
      "\(operation): no tokens given"
    case .tooLong(let tokens, let limit):
      "\(tokens) tokens are more than the model's \(limit) positions; shorten the input or lower max_length"
    case .noTrainedTokens:
      "loss: no token of this batch is trained (all labels are -100)"
    case .noSuchSample(let number, let count):
      "there is no sample \(number); there are \(count), counted from 0"
    case .nonFiniteWeight(let tensor, let index, let path):
      "\(path): \(tensor): element \(index) is not finite, so the tensor cannot be quantized; the file is damaged"
    case .missingTensor(let name, let path):
      "\(path): tensor '\(name)' is missing"
    case .badQuantization(let tensor, let path, let reason):
      "\(path): \(tensor): \(reason)"
    case .badOption(let name, let value, let expected):
      "load: \(name) is \(value), expected \(expected)"
    case .noTokenizer(let path):
      "\(path): no tokenizer found (tokenizer.json, tokenizer.model or GGUF metadata)"
    case .unrecognisedPath(let path):
      "\(path): not a model; expected a directory with config.json, a .gguf file or a hub name in the local cache"
    case .badAdapterOutput(let module, let expected, let got):
      "\(module): its adapter gave an output of shape \(got), the layer has \(expected)"
    case .badReplacement(let module, let expected, let got):
      "hook on \(module): the tensor it returned has shape \(got), the output has \(expected); return nil to leave it"
    case .recursiveHook(let module):
      "hook on \(module): it runs the model again and so itself, without end; keep the tensor and compute afterwards"
    case .noSuchLayer(let layer, let count):
      "the model has no layer \(layer); its layers are 0..\(count - 1), as in the tensor names"
    case .tooFewTokens(let operation, let minimum):
      "\(operation): at least \(minimum) tokens are needed"
    case .cannotStream(let path):
      "\(path): stream = true leaves the base on disk as it is stored, and these weights are not stored in the form they "
        + "are used in; run `qlora-run quantize.lua IN OUT` once and load OUT"
    case .unreadableWeights(let path, let layer, let code):
      "\(path): the weights of layer \(layer) cannot be read any more (\(String(cString: strerror(code)))); was the "
        + "file cut short, or does the disk fail?"
    case .streamedNeedsCheckpointing:
      "checkpointing = false: a streamed model (stream = true) recomputes its layers in the backward pass, so that they "
        + "are read in order; leave it on, or load without stream"
    case .streamedInterval(let layers):
      "checkpointing = \(layers): a streamed base has one layer in memory at a time, so layers are recomputed one by one; "
        + "set checkpointing = true, and offload = true to keep fewer activations, or stream = false"
    case .noOriginalWeights(let path, let reason):
      "quantization error: \(path): \(reason)"
    }
  }
}
