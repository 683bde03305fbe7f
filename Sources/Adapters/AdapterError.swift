/// What can go wrong with adapters and their files, as data.
public enum AdapterError: Error, Equatable, Sendable {
  case unknownModule(name: String, nearest: [String])
  case notLinear(module: String, kind: String)
  case alreadyAttached(module: String)
  case badRank(module: String, rank: Int, limit: Int)
  case badNumber(module: String, name: String, value: Double, expected: String)
  case nothingToSave
  case nothingSelected
  case notAnAdapter(path: String)
  case readsBackDifferently(path: String, module: String, difference: Double)
  case mixedScaling(modules: [String])
  case mixedMethods(modules: [String], names: [String])
  case unknownMethod(path: String, name: String, known: [String])
  case unsupported(path: String, field: String, value: String)
  case badField(path: String, field: String, expected: String)
  case missingTensor(path: String, name: String)
  case unknownTensor(path: String, name: String)
  case shapeMismatch(path: String, tensor: String, expected: [Int], got: [Int])
}

extension AdapterError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .unknownModule(let name, let nearest):
      "no module is called '\(name)'" + (nearest.isEmpty ? "" : "; nearest: \(nearest.joined(separator: ", "))")
    case .notLinear(let module, let kind):
      "\(module): an adapter needs a linear module, this is a \(kind)"
    case .alreadyAttached(let module):
      "\(module): already has an adapter; call model:remove_adapters() first"
    case .badRank(let module, let rank, let limit):
      "\(module): rank \(rank) is outside 1..\(limit)"
    case .badNumber(let module, let name, let value, let expected):
      "\(module): \(name) is \(value), expected \(expected)"
    case .nothingToSave:
      "the model has no adapters to save; call model:add_lora first"
    case .nothingSelected:
      "LoRA: no linear module was chosen"
    case .notAnAdapter(let path):
      "\(path): not an adapter; expected a folder with adapter_config.json, as model:save_adapter or PEFT writes it"
    case .readsBackDifferently(let path, let module, let difference):
      "\(path): the adapter was written, but read back it gives other logits (by up to \(difference)); the first "
        + "module that differs is \(module). The file is not the model you trained: check the disk and save again"
    case .mixedScaling(let modules):
      "\(modules.joined(separator: " and ")): one uses rslora, the other not; PEFT's files have one setting for all"
    case .mixedMethods(let modules, let names):
      "\(zip(modules, names).map { "\($0) has \($1)" }.joined(separator: ", ")); PEFT's files hold one method"
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
    case .shapeMismatch(let path, let tensor, let expected, let got):
      "\(path): \(tensor) has shape \(got), expected \(expected)"
    }
  }
}
