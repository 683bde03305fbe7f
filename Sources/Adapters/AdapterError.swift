/// What can go wrong with adapters and their files, as data.
public enum AdapterError: Error, Equatable, Sendable {
  /// The model has no module of this name; `nearest` are those that end with it.
  case unknownModule(name: String, nearest: [String])
  /// The module is a norm, or an embedding and the method is not for one.
  case notLinear(module: String, kind: String)
  /// The module has an adapter in the set, or is named twice.
  case alreadyAttached(module: String, set: String? = nil)
  /// The model has no set of adapters of this name.
  case unknownSet(name: String, known: [String])
  /// A set is named twice, or a new one as one that is there.
  case repeatedSet(name: String)
  /// Several sets are to be used at once, and one has a method whose change does not add up with others.
  case notAdditive(set: String, module: String, method: String)
  /// Parts of the base are trained with one set, and there are several.
  case partsOfSeveral(names: [String])
  /// A set that is to be combined with others has an adapter of another method.
  case notLoRA(set: String, module: String, method: String)
  /// Adapters whose matrices are to be added element by element differ in their rank.
  case unequalRanks(module: String, sets: [String], ranks: [Int])
  /// What is to be saved is one set, and several are in use.
  case severalInUse(names: [String])
  /// Sets that are not in use would be left on a base that merging changed.
  case othersWouldBeLeft(names: [String])
  /// The rank is outside 1..`limit`.
  case badRank(module: String, rank: Int, limit: Int)
  /// A function of a scripted adapter made what cannot be used.
  case badScript(adapter: String, function: String, module: String, problem: String)
  /// The set has adapters of another method or program.
  case otherInSet(set: String, module: String)
  /// The file holds a scripted adapter, and no program was given.
  case needsDefinition(path: String)
  /// A program was given for a file of another method.
  case notScripted(path: String, method: String)
  /// The stored source is another than the program that was given.
  case otherDefinition(path: String)
  /// The stored source is another than when it was saved.
  case changedSource(path: String)
  /// The output of the module does not depend on its input linearly, so that no weight stands for it.
  case notMergeable(module: String)
  /// A setting is out of range.
  case badNumber(module: String, name: String, value: Double, expected: String)
  /// The adapter cannot start in the way called `name` on this module.
  case badStart(module: String, name: String, reason: String)
  /// No module of the model has an adapter.
  case nothingToSave
  /// A tensor that would be saved with NaN or an infinity in it.
  case notFinite(tensor: String)
  /// The choice of modules is empty.
  case nothingSelected
  /// The module has something else than a branch of two matrices, which is all that the files can hold; `what` names
  /// it.
  case notLowRank(module: String, what: String)
  /// The folder has no adapter_config.json; `inside` are the folders in it that have one.
  case notAnAdapter(path: String, inside: [String] = [])
  /// A saved adapter gives other logits; `difference` is the largest absolute one.
  case readsBackDifferently(path: String, module: String, difference: Double)
  /// Two modules differ in `rankStabilised`, of which PEFT's files have one.
  case mixedScaling(modules: [String])
  /// Two modules differ in their method, of which PEFT's files have one.
  case mixedMethods(modules: [String], names: [String])
  /// Biases are trained of neither all modules nor of those with an adapter, and PEFT's files know nothing between.
  case mixedBiases(modules: [String])
  /// `peft_type` is missing, or names a method that is not registered.
  case unknownMethod(path: String, name: String, known: [String])
  /// A field asks for arithmetic that is not implemented.
  case unsupported(path: String, field: String, value: String)
  /// A field is missing or has a wrong value.
  case badField(path: String, field: String, expected: String)
  /// The file lacks a tensor of an adapter.
  case missingTensor(path: String, name: String)
  /// The file holds a tensor that belongs to no linear module or to no parameter of its method.
  case unknownTensor(path: String, name: String)
  /// The file holds an adapter of a module that `target_modules` does not mean.
  case notTargeted(path: String, module: String)
  /// A stored tensor is there as a copy of `original`, and is another.
  case otherCopy(path: String, tensor: String, of: String)
  /// A field says that the adapter was made for a model of the family of `type`, and this is one of that of `model`;
  /// both as `model_type` of config.json has them.
  case otherFamily(path: String, field: String, type: String, model: String)
  /// The file has `rows` rows of an embedding or output matrix, or names a token of row `rows - 1`, and the base has
  /// `base`: it was made before or after tokens were added. `unties`: the base's output matrix is its embedding, and
  /// the file has one of its own.
  case otherVocabulary(path: String, module: String, rows: Int, base: Int, unties: Bool)
  /// A stored matrix takes the place of one that is embedding and output matrix at once. `unties`: the file has an
  /// output matrix of its own.
  case tiedOutput(path: String, tensor: String, unties: Bool)
  /// A stored tensor changes the output matrix and not the embedding, and both are one matrix in this base.
  case outputAlone(path: String, tensor: String)
  /// A stored tensor does not fit its module.
  case shapeMismatch(path: String, tensor: String, expected: [Int], got: [Int])
}

extension AdapterError: CustomStringConvertible {
  /// One sentence that names the module or the file.
  public var description: String {
    switch self {
    case .unknownModule(let name, let nearest):
      "no module is called '\(name)'" + (nearest.isEmpty ? "" : "; nearest: \(nearest.joined(separator: ", "))")
    case .notLinear(let module, let kind):
      "\(module): an adapter needs a linear module, and this one is of the kind \(kind)"
    case .alreadyAttached(let module, let set):
      "\(module): already has an adapter" + (set.map { " called '\($0)'" } ?? "")
    case .unknownSet(let name, let known):
      "no adapter is called '\(name)'; "
        + (known.isEmpty ? "the model has none" : "there are \(known.joined(separator: ", "))")
    case .repeatedSet(let name):
      "an adapter called '\(name)' is there already or named twice"
    case .notAdditive(let set, let module, let method):
      "\(module): '\(set)' is of the kind \(method), which changes the weight or the output as a whole; "
        + "it cannot be used together with others"
    case .partsOfSeveral(let names):
      "\(names.joined(separator: " and ")): whole modules and biases of the base are trained with one adapter, and the "
        + "model has others"
    case .notLoRA(let set, let module, let method):
      "\(module): '\(set)' is of the kind \(method); only plain LoRA adapters can be combined"
    case .unequalRanks(let module, let sets, let ranks):
      "\(module): the ranks differ (\(zip(sets, ranks).map { "\($0) \($1)" }.joined(separator: ", "))); cat, svd and "
        + "those that end in _svd combine adapters of different ranks"
    case .severalInUse(let names):
      "\(names.joined(separator: " and ")) are in use together, and a file holds one adapter"
    case .othersWouldBeLeft(let names):
      "merging changes the base for which \(names.joined(separator: ", ")) \(names.count == 1 ? "was" : "were") made"
    case .badRank(let module, let rank, let limit):
      "\(module): rank \(rank) is outside 1..\(limit)"
    case .badScript(let adapter, let function, let module, let problem):
      "scripted adapter '\(adapter)', \(function) on \(module): \(problem)"
    case .otherInSet(let set, let module):
      "\(module): '\(set)' has adapters that another method or program made"
    case .needsDefinition(let path):
      "\(path): the adapter is a program, which is run only when it is given"
    case .notScripted(let path, let method):
      "\(path): peft_type is \(method), which is no scripted adapter"
    case .otherDefinition(let path):
      "\(path): the adapter was made by other functions, or by the same with other values of their local variables"
    case .changedSource(let path):
      "\(path): the file is not what source_sha256 in adapter_config.json says"
    case .notMergeable(let module):
      "\(module): the scripted adapter does not change the output linearly, so no weight and bias stand for it"
    case .badNumber(let module, let name, let value, let expected):
      "\(module): \(name) is \(value), expected \(expected)"
    case .badStart(let module, let name, let reason):
      "\(module): cannot start with \(name): \(reason)"
    case .nothingToSave:
      "the model has no adapters to save"
    case .notFinite(let tensor):
      "\(tensor) has elements that are no finite numbers, so it is not saved: a step of the training went wrong"
    case .nothingSelected:
      "LoRA: no linear module was chosen"
    case .notLowRank(let module, let what):
      "\(module): there is \(what), and these files hold plain LoRA of linear modules alone"
    case .notAnAdapter(let path, let inside):
      "\(path): not an adapter; expected a folder with adapter_config.json, as PEFT writes it"
        + (inside.isEmpty ? "" : "; there is one in " + inside.joined(separator: ", "))
    case .readsBackDifferently(let path, let module, let difference):
      "\(path): the adapter was written, but read back it gives other logits (by up to \(difference)); the first "
        + "module that differs is \(module). The files are not the model you trained, and were not put in place"
    case .mixedScaling(let modules):
      "\(modules.joined(separator: " and ")): one uses rslora, the other not; PEFT's files have one setting for all"
    case .mixedMethods(let modules, let names):
      "\(zip(modules, names).map { "\($0) has \($1)" }.joined(separator: ", ")); PEFT's files hold one method"
    case .mixedBiases(let modules):
      "biases of \(modules.count) modules are trained, \(modules.first ?? "none") the first; PEFT's "
        + "files have those of all modules, or of those with an adapter"
    case .unknownMethod(let path, let name, let known):
      "\(path): peft_type = \(name) is not supported; known: \(known.joined(separator: ", "))"
    case .unsupported(let path, let field, let value):
      "\(path): \(field) = \(value) is not supported"
    case .badField(let path, let field, let expected):
      "\(path): field '\(field)' is missing or not \(expected)"
    case .missingTensor(let path, let name):
      "\(path): tensor '\(name)' is missing"
    case .unknownTensor(let path, let name):
      "\(path): tensor '\(name)' belongs to no module of this model"
    case .notTargeted(let path, let module):
      "\(path): there are tensors for \(module), but target_modules (with exclude_modules and layers_to_transform) "
        + "leaves it out"
    case .otherCopy(let path, let tensor, let original):
      "\(path): \(tensor) is not the same as \(original); the adapter was made for another model, or "
        + "the weight was trained too"
    case .otherFamily(let path, let field, let type, let model):
      "\(path): the adapter was made for the family \(type), as \(field) says, and this model is of the family \(model)"
    case .otherVocabulary(let path, let module, let rows, let base, _):
      "\(path): the adapter has \(rows) rows of \(module) and the base \(base): it was made "
        + (rows > base
          ? "after tokens were added to the base"
          : "before tokens were added to the base, or after some were taken away")
        + " (resize_token_embeddings)"
    case .tiedOutput(let path, let tensor, _):
      "\(path): \(tensor) takes the place of a matrix that is embedding and output matrix at once in this base "
        + "(tie_word_embeddings)"
    case .outputAlone(let path, let tensor):
      "\(path): \(tensor) changes the output matrix alone, which is the embedding too in this base "
        + "(tie_word_embeddings)"
    case .shapeMismatch(let path, let tensor, let expected, let got):
      "\(path): \(tensor) has shape \(got), expected \(expected)"
    }
  }
}
