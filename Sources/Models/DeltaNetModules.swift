import Formats

/// The modules of a gated DeltaNet in the place of attention, named as in Qwen3.5.
package struct DeltaNetModules: Sendable, Equatable {
  /// How `inputs` hold the rows.
  package enum Form: Sendable, Equatable {
    /// A matrix for queries, keys and values, and one for each of the others.
    case separate
    /// Two matrices, in both of which the rows of one key head and its value heads lie together (Qwen3-Next).
    case perHead
  }

  package var form = Form.separate
  /// What reads its input: queries, keys and values of all heads in one matrix; the gate of the output; the strength of
  /// writing and the decay of each head.
  package var inputs = [
    LayerModule("linear_attn.in_proj_qkv", "attn_qkv", .linear(from: .hidden, to: .deltaRows)),
    LayerModule("linear_attn.in_proj_z", "attn_gate", .linear(from: .hidden, to: .deltaValues)),
    LayerModule("linear_attn.in_proj_b", "ssm_beta", .linear(from: .hidden, to: .deltaHeads)),
    LayerModule("linear_attn.in_proj_a", "ssm_alpha", .linear(from: .hidden, to: .deltaHeads)),
  ]
  package var convolution = LayerModule("linear_attn.conv1d", "ssm_conv1d", .convolution(.deltaRows))
  /// Logarithms of the heads' rates of decay, and what is added to their decays.
  package var rates = LayerModule("linear_attn.A_log", "ssm_a", .vector(.deltaHeads, initial: .spreadLogarithms))
  package var bias = LayerModule("linear_attn.dt_bias", "ssm_dt.bias", .vector(.deltaHeads, initial: .constant(1)))
  /// Of each head's output, before the gate.
  package var norm = LayerModule("linear_attn.norm", "ssm_norm", .norm(.deltaHead), normalization: .rms)
  package var output = LayerModule("linear_attn.out_proj", "ssm_out", .linear(from: .deltaValues, to: .hidden))

  package init() {}

  /// As in Qwen3-Next.
  package static var fused: DeltaNetModules {
    var modules = DeltaNetModules()
    modules.form = .perHead
    modules.inputs = [
      LayerModule("linear_attn.in_proj_qkvz", "ssm_in", .linear(from: .hidden, to: .deltaRowsAndGates)),
      LayerModule("linear_attn.in_proj_ba", "ssm_ba", .linear(from: .hidden, to: .deltaRates)),
    ]
    return modules
  }

  package var all: [LayerModule] { inputs + [convolution, rates, bias, norm, output] }

  /// How llama.cpp's files hold them: value heads in another order, but in Qwen3-Next the rows of one matrix in two.
  func inGGUF(_ numbers: DeltaNetNumbers) -> GGUFDeltaNet {
    var rows: [String: GGUFDeltaNet.Rows] = [:]
    if form == .separate {
      for module in [inputs[0], convolution] { rows[module.name] = .queriesKeysAndValues }
      rows[inputs[1].name] = .values
      for module in inputs[2...] + [rates, bias] { rows[module.name] = .heads }
    }
    return GGUFDeltaNet(
      keyHeads: numbers.keyHeads, valueHeads: numbers.valueHeads, keyDimension: numbers.keyDimension,
      valueDimension: numbers.valueDimension, rows: rows, columns: form == .separate ? [output.name] : [],
      logarithms: [rates.name], convolutions: [convolution.name],
      split: form == .perHead ? GGUFDeltaNet.Split(inputs[0].name, rows: "attn_qkv", gates: "attn_gate") : nil)
  }
}

/// Sizes of the gated DeltaNets of a model.
public struct DeltaNetNumbers: Sendable, Equatable {
  /// Heads of queries and keys, 1 to 2^14; a divisor of `valueHeads`.
  public package(set) var keyHeads: Int
  /// Heads of values, each with a state of its own, 1 to 2^14.
  public package(set) var valueHeads: Int
  /// Width of a query and of a key, 1 to 2^14.
  public package(set) var keyDimension: Int
  /// Width of a value, 1 to 2^14.
  public package(set) var valueDimension: Int
  /// Tokens that the convolution sees, 1 to 64.
  public package(set) var taps: Int

  package init(keyHeads: Int, valueHeads: Int, keyDimension: Int, valueDimension: Int, taps: Int) {
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyDimension = keyDimension
    self.valueDimension = valueDimension
    self.taps = taps
  }

  /// Keys of GGUF metadata.
  package static let ggufKeys: [String: FieldDecision] = [
    "ssm.conv_kernel": .honoured, "ssm.state_size": .honoured, "ssm.group_count": .honoured,
    "ssm.time_step_rank": .honoured, "ssm.inner_size": .honoured, "attention.recurrent_layers": .honoured,
    "full_attention_interval": .honoured, "nextn_predict_layers": .honoured,
    "rope.dimension_sections": .harmless("the three positions of a token of text are one"),
  ]

  /// From GGUF metadata. `state_size` is the width of keys, `inner_size` that of all values.
  package init(_ fields: GGUFFields) throws(FormatError) {
    let inner = try fields.required("ssm.inner_size")
    self.init(
      keyHeads: try fields.required("ssm.group_count"), valueHeads: try fields.required("ssm.time_step_rank"),
      keyDimension: try fields.required("ssm.state_size"), valueDimension: 0,
      taps: try fields.required("ssm.conv_kernel"))
    guard valueHeads > 0, inner % valueHeads == 0 else {
      throw .badField(
        path: fields.file.path, field: "ssm.inner_size", value: "\(inner)",
        expected: "a multiple of ssm.time_step_rank (\(valueHeads))")
    }
    valueDimension = inner / valueHeads
    try validate(path: fields.file.path)
  }

  package func write(into gguf: inout GGUFDescription) {
    gguf.set("ssm.conv_kernel", taps)
    gguf.set("ssm.state_size", keyDimension)
    gguf.set("ssm.group_count", keyHeads)
    gguf.set("ssm.time_step_rank", valueHeads)
    gguf.set("ssm.inner_size", values)
  }

  /// Width of all values.
  var values: Int { valueHeads * valueDimension }
  /// Width of queries, keys and values.
  var rows: Int { 2 * keyHeads * keyDimension + values }

  /// Checks the numbers; `path` is named in the error.
  func validate(path: String) throws(FormatError) {
    let limits = [
      ("linear_num_key_heads", keyHeads, 1 << 14), ("linear_num_value_heads", valueHeads, 1 << 14),
      ("linear_key_head_dim", keyDimension, 1 << 14), ("linear_value_head_dim", valueDimension, 1 << 14),
      ("linear_conv_kernel_dim", taps, 64),
    ]
    for (field, value, most) in limits where value < 1 || value > most {
      throw .badField(path: path, field: field, value: "\(value)", expected: "1 to \(most)")
    }
    guard valueHeads % keyHeads == 0 else {
      throw .badField(
        path: path, field: "linear_num_value_heads", value: "\(valueHeads)",
        expected: "a multiple of linear_num_key_heads (\(keyHeads))")
    }
  }
}
