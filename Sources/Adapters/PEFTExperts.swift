import Formats
import Models
import Tensors

/// Adapters on experts as PEFT has them with transformers 5 (0.21.2, `target_parameters`, ParamWrapper): one pair of
/// matrices for the tensor that holds an input or output matrix of every expert.
///
/// A [rank * experts, in] has the rows of one expert after the other. Column j * experts + e of B [out, rank * experts]
/// is column j of expert e. Where gate and up are modules here and one tensor there, their pairs stand in the diagonal
/// of one of twice the rank: A has the rows of both, B the columns of gate in the rows of gate and those of up in the
/// rows of up. One pair has one rank and one scaling. Lower ranks are filled up with zeros, B has the rest of a
/// scaling, and what has no adapter is zero.
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
      let key = PEFTNames.theirs(module.name)
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
