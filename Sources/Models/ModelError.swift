import Formats
import Glibc
import Tensors

/// What can go wrong with a model, as data.
public enum ModelError: Error, Equatable, Sendable {
  /// A module without weights is to be computed or saved.
  case notLoaded(module: String)
  /// The model was read from its header only; `operation` needs weights.
  case headerOnly(operation: String)
  /// A model with adapters is to be saved, which holds none; `count` modules have one.
  case adaptersAttached(count: Int)
  /// A GGUF file is to be written, and those of `family` cannot say `what`: names of fields or tensors.
  case notInGGUF(family: String, what: [String])
  /// No module has this name; `nearest` are names like it, if any.
  case unknownModule(name: String, nearest: [String])
  /// A token id outside 0..<`vocabulary`.
  case tokenOutOfRange(id: Int, vocabulary: Int)
  /// No tokens, an empty sequence, or labels of another length than the ids.
  case emptyInput(operation: String)
  /// A logit from which no token can be drawn: NaN, infinity, or -infinity where all are.
  case badLogit(Float)
  /// More tokens in a sequence than the model has positions.
  case tooLong(tokens: Int, limit: Int)
  /// No target counts in the loss.
  case noTrainedTokens
  /// A trained range that starts before the one in front of it ends: its targets would count twice.
  case overlappingRanges(first: Range<Int>, second: Range<Int>)
  /// A sample number outside 0..<`count`.
  case noSuchSample(number: Int, count: Int)
  /// A NaN or an infinity, at the flat `index`, in a tensor that is to be quantized.
  case nonFiniteWeight(tensor: String, index: Int, path: String)
  /// A tensor that the configuration asks for is not in the file.
  case missingTensor(name: String, path: String)
  /// The output matrix is not in the file, and the configuration does not tie it to the embedding.
  case missingHead(name: String, path: String)
  /// A tensor in the file that no module of the configuration reads.
  case unknownTensor(name: String, path: String)
  /// A matrix that is stored in 4 bits cannot be used so, or must not be stored so.
  case badQuantization(tensor: String, path: String, problem: QuantizationProblem)
  /// An option of loading or quantizing has a value that is not allowed.
  case badOption(name: String, value: String, expected: String)
  /// Texts that grow together began under other adapters than those in use now; `texts` are open.
  case otherAdapters(texts: Int)
  /// Text is to be encoded or decoded without a tokenizer.
  case noTokenizer(path: String)
  /// The path is no model, or holds no weights.
  case unrecognisedPath(path: String)
  /// A hook returned a tensor of another shape than the output.
  case badReplacement(module: String, expected: [Int], got: [Int])
  /// `AdapterMethod.apply` returned a tensor of another shape than the output.
  case badAdapterOutput(module: String, expected: [Int], got: [Int])
  /// An adapter changes the embedding but not the output matrix, which is the same weight.
  case mergeUnties(module: String)
  /// Adapters are in use while weights that hold them stand in the places of the model's own.
  case adaptersOnMerged(sets: [String])
  /// A hook runs its own module again.
  case recursiveHook(module: String)
  /// A layer outside 0..<`count`.
  case noSuchLayer(layer: Int, count: Int)
  /// Attention of a layer is asked for that has a recurrent one in its place.
  case noAttention(layer: Int)
  /// `operation` needs at least `minimum` tokens.
  case tooFewTokens(operation: String, minimum: Int)
  /// Quantized modules cannot be compared with the weights of the file.
  case noOriginalWeights(path: String, problem: OriginalProblem)
  /// The base is to be kept as it is stored, and no matrix of the file is in a block format.
  case nothingToKeep(path: String)
  /// Weights of layers are not views of a file, so they cannot stay on disk.
  case cannotStream(path: String)
  /// Weights of a streamed layer can no longer be read; `code` is errno.
  /// The number of layers stands for the output module.
  case unreadableWeights(path: String, layer: Int, code: Int32)
  /// Checkpointing is turned off for a streamed model.
  case streamedNeedsCheckpointing
  /// A streamed model recomputes its layers one by one, not `layers` together.
  case streamedInterval(layers: Int)
  /// Something of `module`, a module or the model, keeps variants from sharing a pass.
  case notTogether(module: String, TogetherProblem)

  /// More processes than layers are to hold a model in pieces.
  case fewLayers(layers: Int, stages: Int)
  /// `operation` needs all of a model, of which each of several processes holds a stage.
  case staged(operation: String, stages: Int)

  /// What is wrong with a matrix that a file holds in 4 bits.
  public enum QuantizationProblem: Equatable, Sendable {
    /// The file holds both an NF4 and an FP4 state of the matrix.
    case twoStates
    /// A part of the stored form that is not what the format says.
    case field(String, value: String, expected: String)
    /// Where wide weights are needed.
    case alreadyQuantized(FourBitKind)
    /// Where another type is asked for.
    case storedAs(FourBitKind)
    /// Where another form is asked for: both values of the option.
    case storedWith(option: String, stored: String, asked: String)
  }

  /// What keeps variants from sharing a pass over the base.
  public enum TogetherProblem: Equatable, Sendable {
    /// The model sends rows to experts, which would take them from all variants.
    case experts
    /// A part of the base is trained.
    case trainedPart
    /// A hook would see the rows of all variants.
    case hook
    /// An adapter of the embedding or of the output matrix.
    case outsideLayers
    /// An adapter that took a part out of the base.
    case baseChange
    /// A merge, after which the base of the others would be another.
    case merge
  }

  /// Why a quantized module cannot be compared with the weights it was made from.
  public enum OriginalProblem: Equatable, Sendable {
    /// The module is in floating point.
    case notQuantized(module: String)
    /// The model has no quantized module.
    case nothingQuantized
    /// The weights are random, or the path leads to no model any more.
    case notFromFile
    /// The file itself holds the module in 4 bits.
    case storedQuantized(module: String)
    /// The module is what the file holds.
    case kept(module: String)
    /// No checkpoint format stores the module's 4-bit type.
    case notStorable(module: String, FourBitKind)
    /// The module is in 4 bits, and not as a checkpoint has it, whose layers are all in one form.
    case otherForm(module: String)
  }
}

extension ModelError: CustomStringConvertible {
  /// The error in words: what, where and, where known, what to do.
  public var description: String {
    switch self {
    case .notLoaded(let module):
      "\(module): this module has no weights; the model was read from its header only"
    case .headerOnly(let operation):
      "\(operation): the model was read from its header only; load the weights to compute"
    case .adaptersAttached(let count):
      "save: \(count) modules have adapters, and a saved model holds the base alone"
    case .notInGGUF(let family, let what):
      "GGUF files of \(family) cannot say, or llama.cpp does not compute, what this model has in: "
        + what.joined(separator: ", ")
    case .unknownModule(let name, let nearest):
      "no module is called '\(name)'" + (nearest.isEmpty ? "" : "; nearest: \(nearest.joined(separator: ", "))")
    case .tokenOutOfRange(let id, let vocabulary):
      "token id \(id) is outside the vocabulary of \(vocabulary) (ids are 0..\(vocabulary - 1)); encode the text with "
        + "this model's own tokenizer"
    case .badLogit(let value):
      "no token can be drawn: \(value == -.infinity ? "every logit is -inf" : "a logit is \(value)"); "
        + "the weights, an adapter or a hook give no numbers"
    case .emptyInput(let operation):
      "\(operation): no tokens given"
    case .tooLong(let tokens, let limit):
      "\(tokens) tokens are more than the model's \(limit) positions; shorten the input"
    case .noTrainedTokens:
      "loss: no token of this batch is trained (all labels are \(NextToken.untrained))"
    case .noSuchSample(let number, let count):
      "there is no sample \(number); there are \(count), counted from 0"
    case .nonFiniteWeight(let tensor, let index, let path):
      "\(path): \(tensor): element \(index) is not finite, so the tensor cannot be quantized; the file is damaged"
    case .missingTensor(let name, let path):
      "\(path): tensor '\(name)' is missing"
    case .missingHead(let name, let path):
      "\(path): tensor '\(name)' is missing, and config.json does not tie the output matrix to the embedding "
        + "(tie_word_embeddings): the file is of the model without its head"
    case .unknownTensor(let name, let path):
      "\(path): tensor '\(name)' belongs to no module of this configuration"
    case .badQuantization(let tensor, let path, let problem):
      "\(path): \(tensor): \(problem)"
    case .badOption(let name, let value, let expected):
      "load: \(name) is \(value), expected \(expected)"
    case .otherAdapters(let texts):
      "generate: \(texts) texts that began under other adapters are not at their end"
    case .noTokenizer(let path):
      "\(path): no tokenizer found (tokenizer.json, tokenizer.model or GGUF metadata)"
    case .unrecognisedPath(let path):
      "\(path): not a model; expected a directory with config.json, a .gguf file or a hub name in the local cache"
        + (OtherWeights.words(for: path).map { "; by its name it is " + $0 } ?? "")
    case .badAdapterOutput(let module, let expected, let got):
      "\(module): its adapter gave an output of shape \(got), the layer has \(expected)"
    case .adaptersOnMerged(let sets):
      "the model computes with merged weights now, and adapters are in use beside them: \(sets.joined(separator: ", "))"
    case .mergeUnties(let module):
      "\(module): the embedding is the output matrix too, and its adapter changes the rows alone; "
        + "merged it would change the logits"
    case .badReplacement(let module, let expected, let got):
      "hook on \(module): the tensor it returned has shape \(got), the output has \(expected); return nil to leave it"
    case .overlappingRanges(let first, let second):
      "trained ranges must ascend and not overlap: \(second) comes after \(first)"
    case .recursiveHook(let module):
      "hook on \(module): it runs the model again and so itself, without end; keep the tensor and compute afterwards"
    case .noSuchLayer(let layer, let count):
      "the model has no layer \(layer); its layers are 0..\(count - 1), as in the tensor names"
    case .noAttention(let layer):
      "layer \(layer) (counted from 0) is recurrent: it has a state in the place of attention"
    case .tooFewTokens(let operation, let minimum):
      "\(operation): at least \(minimum) tokens are needed"
    case .nothingToKeep(let path):
      "\(path): no matrix is stored in a block format of GGUF or in 4 bits, so there is nothing to keep so"
    case .cannotStream(let path):
      "\(path): streaming leaves the base on disk as it is stored, and these weights are not stored in the form they "
        + "are used in"
    case .unreadableWeights(let path, let layer, let code):
      "\(path): the weights of layer \(layer) cannot be read any more (\(String(cString: strerror(code)))); was the "
        + "file cut short, or does the disk fail?"
    case .streamedNeedsCheckpointing:
      "checkpointing is off: a streamed model recomputes its layers in the backward pass, so that they "
        + "are read in order"
    case .streamedInterval(let layers):
      "checkpointing of \(layers) layers together: a streamed base has one layer in memory at a time, so layers are "
        + "recomputed one by one"
    case .fewLayers(let layers, let stages):
      "pipeline: \(stages) ranks cannot share out \(layers) layers; each needs one"
    case .staged(let operation, let stages):
      "\(operation): the layers of the model lie on \(stages) ranks, and this needs all of them in one place"
    case .noOriginalWeights(let path, let problem):
      "quantization error: \(path): \(problem)"
    case .notTogether(let module, let problem):
      "variants cannot train together in one pass: \(module) \(problem)"
    }
  }
}

extension ModelError.TogetherProblem: CustomStringConvertible {
  /// The problem in words, to follow a name.
  public var description: String {
    switch self {
    case .experts: "has experts, which take their rows from all sequences of a pass"
    case .trainedPart: "is trained as a part of the base (modules_to_save, bias), which all variants see"
    case .hook: "has a hook, which would see the rows of all variants"
    case .outsideLayers: "has an adapter, and only adapters of the decoder layers share a pass"
    case .baseChange: "has an adapter whose start changed the base (pissa, olora, loftq), which then is another"
    case .merge: "is the base of all variants, and a merge would change it; save the adapter and merge it afterwards"
    }
  }
}

extension ModelError.QuantizationProblem: CustomStringConvertible {
  /// The problem in words, to follow the tensor's name.
  public var description: String {
    switch self {
    case .twoStates: "has two quantization states"
    case .field(let name, let value, let expected): "\(name) is \(value), expected \(expected)"
    case .alreadyQuantized(let kind): "is already in 4 bits (\(kind.rawValue)); give the original checkpoint"
    case .storedAs(let kind): "is stored in 4 bits (\(kind.rawValue)), so another type cannot be chosen while loading"
    case .storedWith(let option, let stored, let asked):
      "is stored in 4 bits with \(option) \(stored), and \(option) \(asked) is asked for; what is stored in 4 bits "
        + "stays as it is: leave \(option) out, or load the original checkpoint"
    }
  }
}

extension ModelError.OriginalProblem: CustomStringConvertible {
  /// The problem in words.
  public var description: String {
    switch self {
    case .notQuantized(let module): "\(module) is not quantized"
    case .nothingQuantized: "no module is quantized"
    case .notFromFile: "the model was not read from a file"
    case .storedQuantized(let module): "\(module) is stored in 4 bits, its original weights are not in the file"
    case .kept(let module): "\(module) is kept as the file has it, so nothing was rounded"
    case .notStorable(let module, let kind): "\(module) is in \(kind.rawValue), which no checkpoint format stores"
    case .otherForm(let module):
      "\(module) is in 4 bits that differ from those of the first layer; a checkpoint has one form, and only for the "
        + "matrices of layers"
    }
  }
}
