import Formats
import Models
import Tensors

/// Adapters on experts as PEFT has them with transformers 5 (0.21.2, `target_parameters`, ParamWrapper): one pair of
/// matrices for the tensor that holds an input or output matrix of every expert.
///
/// A [rank * experts, in] has the rows of one expert after the other. Column j * experts + e of B [out, rank * experts] is
/// column j of expert e. Where gate and up are modules here and one tensor there, their pairs stand in the diagonal of one
/// of twice the rank: A has the rows of both, B the columns of gate in the rows of gate and those of up in the rows of up.
struct PEFTExperts {
  /// The adapters on one tensor of a layer.
  struct Stack {
    /// Name of the tensor, without the class of the model: `model.layers.0.mlp.experts.gate_up_proj`.
    let parameter: String
    /// What its keys begin with. Of two tensors of one module the second is wrapped around the first.
    let key: String
    /// The modules of each expert whose rows it has, in their order.
    let experts: [[Module]]

    var modules: [Module] { experts.flatMap { $0 } }
    var width: Int { experts[0][0].inFeatures }
    var height: Int { experts[0].reduce(0) { $0 + $1.outFeatures } }
  }

  /// A module whose weight is named as a parameter there: a router, which is no linear module, or another matrix.
  struct Matrix {
    let parameter: String
    let key: String
    let module: Module
  }

  let stacks: [Stack]
  let matrices: [Matrix]

  /// Those whose parameters are chosen.
  init(_ model: LanguageModel, where isChosen: (_ parameter: String, [Module]) throws -> Bool) rethrows {
    var (stacks, matrices): ([Stack], [Matrix]) = ([], [])
    for (number, layer) in model.spec.layers.enumerated() where layer.hasExperts {
      guard let places = model.spec.modules.experts, let numbers = model.spec.experts else { continue }
      let prefix = "\(model.spec.outerNames.layers)\(number)."
      func named(_ places: [LayerModule]) -> [Module] { places.compactMap { model.module(prefix + $0.name) } }
      let experts = (0..<numbers.count).map { places.expert($0) }
      let container = prefix + "mlp.experts"
      let inputs = experts.map { named($0.inputs) }, outputs = experts.map { named([$0.output]) }
      let takesInputs = try isChosen(container + ".gate_up_proj", inputs.flatMap { $0 })
      let takesOutputs = try isChosen(container + ".down_proj", outputs.flatMap { $0 })
      if takesInputs {
        let key = takesOutputs ? container + ".base_layer" : container
        stacks.append(Stack(parameter: container + ".gate_up_proj", key: key, experts: inputs))
      }
      if takesOutputs { stacks.append(Stack(parameter: container + ".down_proj", key: container, experts: outputs)) }
    }
    for module in model.modules where module.kind == .linear && !module.isExpert {
      // Mixtral's router has another name since transformers 5.
      let key = module.name.replacing(".block_sparse_moe.", with: ".mlp.")
      if try isChosen(key + ".weight", [module]) {
        matrices.append(Matrix(parameter: key + ".weight", key: key, module: module))
      }
    }
    (self.stacks, self.matrices) = (stacks, matrices)
  }

  var isEmpty: Bool { stacks.isEmpty && matrices.isEmpty }
  var parameters: [String] { stacks.map(\.parameter) + matrices.map(\.parameter) }
  var modules: [Module] { stacks.flatMap(\.modules) + matrices.map(\.module) }
}

// MARK: Writing

extension PEFTExperts {
  /// What of a model's adapters PEFT states so; nil where it cannot state all on experts and routers so: another method
  /// than LoRA, a start that changed the base, dropout, which PEFT refuses beside `target_parameters`, or modules of one tensor that are not all adapted
  /// alike.
  init?(stating model: LanguageModel) {
    let adapted = model.modules.filter { $0.adapter != nil }
    guard adapted.contains(where: { $0.isExpert || $0.isRouter }),
      adapted.allSatisfy({ ($0.adapter?.method as? LoRA)?.dropout == 0 && $0.adapter?.baseChange == nil })
    else { return nil }
    // In a model with experts PEFT takes the name of a feed-forward module for that of a matrix of experts.
    let roles = Set(model.modules.filter(\.isExpert).map(\.role))
    self.init(model) { _, modules in
      guard modules[0].isExpert || modules[0].isRouter || roles.contains(modules[0].role) else { return false }
      guard let first = modules.first?.adapter?.method as? LoRA else { return false }
      return modules.allSatisfy { module in
        guard let own = module.adapter?.method as? LoRA else { return false }
        return own.rank == first.rank && own.scaling == first.scaling && own.rankStabilised == first.rankStabilised
      }
    }
    let stated = Set(modules.map(\.name))
    guard adapted.allSatisfy({ !($0.isExpert || $0.isRouter) || stated.contains($0.name) }) else { return nil }
  }

  /// The settings by the names that PEFT's patterns match.
  var methods: [(module: String, method: LoRA)] {
    stacks.compactMap { stack in stack.method.map { (stack.parameter, $0) } }
      + matrices.compactMap { matrix in (matrix.module.adapter?.method as? LoRA).map { (matrix.parameter, $0) } }
  }

  /// `target_parameters`: the end of a name where all that end so are meant, else whole names.
  func targets(_ model: LanguageModel) -> [String] {
    let all = PEFTExperts(model) { _, _ in true }
    var counts: [String: Int] = [:]
    func short(_ name: String) -> String {
      name.firstRange(of: ".mlp.").map { "mlp." + name[$0.upperBound...] } ?? name
    }
    for name in all.parameters { counts[short(name), default: 0] += 1 }
    for name in parameters { counts[short(name), default: 0] -= 1 }
    return Set(parameters.map { counts[short($0)] == 0 ? short($0) : $0 }).sorted()
  }
}

extension PEFTExperts.Stack {
  /// That of all modules together.
  var method: LoRA? {
    guard var method = experts[0][0].adapter?.method as? LoRA else { return nil }
    let scaling = method.scaling
    method.rank *= experts[0].count
    method.alpha = scaling * (method.rankStabilised ? Double(method.rank).squareRoot() : Double(method.rank))
    // Twice an alpha is exact; the quotient may not be.
    if !method.rankStabilised, let own = experts[0][0].adapter?.method as? LoRA {
      method.alpha = own.alpha * Double(experts[0].count)
    }
    return method
  }

  /// A and B by PEFT's names.
  func tensors() throws -> [(name: String, shape: [Int], make: () throws -> [Float])] {
    guard let method else { return [] }
    let (rank, count) = (method.rank, experts.count)
    return [
      ("\(key).\(LoRA.nameOfA)", [rank * count, width], { try self.modules.flatMap { try $0.lowRankFloats(0) } }),
      ("\(key).\(LoRA.nameOfB)", [height, rank * count], { try self.outputs(rank) }),
    ]
  }

  private func outputs(_ rank: Int) throws -> [Float] {
    let count = experts.count
    var values = [Float](repeating: 0, count: height * rank * count)
    for (expert, modules) in experts.enumerated() {
      var firstRow = 0
      let own = rank / modules.count
      for (part, module) in modules.enumerated() {
        let b = try module.lowRankFloats(1)
        for row in 0..<module.outFeatures {
          for column in 0..<own {
            values[((firstRow + row) * rank + part * own + column) * count + expert] = b[row * own + column]
          }
        }
        firstRow += module.outFeatures
      }
    }
    return values
  }
}

extension Module {
  /// A or B of its adapter.
  fileprivate func lowRankFloats(_ index: Int) throws -> [Float] { try adapter?.tensors[index].floats() ?? [] }
}
