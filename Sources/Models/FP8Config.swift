import Formats

/// Weights in fp8, as the quantization_config of their checkpoint describes them: of method `fp8` (DeepSeek, Qwen) or
/// `compressed-tensors`. They are decoded while loading; activations are not rounded, as in transformers where it
/// dequantizes.
package enum FP8Config {
  static let methods = ["fp8", "compressed-tensors"]

  package static let table = FieldTable(
    [
      row(["quant_method"], .honoured),
      row(["weight_block_size"], .nullable),
      row(["fmt"], .only([.null, "e4m3"], "the other fp8 type has another table")),
      row(["scale_fmt"], .harmless("the scales say their own type")),
      row(["expert_dtype"], .only([.null, "fp8"], "experts are stored as other matrices")),
      row(["activation_scheme"], .harmless("activations are not rounded to fp8")),
      row(["dequantize"], .harmless("weights are always dequantized, then stored as quant says")),
      row(
        ["modules_to_not_convert", "modules_to_convert", "ignored_layers"],
        .harmless("each tensor says its own type")),
    ], unknown: .refused)

  /// Of method compressed-tensors.
  package static let compressed = FieldTable(
    [
      row(["quant_method", "config_groups", "format"], .honoured),
      row(["kv_cache_scheme"], .only([.null], "keys and values are not rounded to fp8")),
      row(["sparsity_config", "transform_config"], .only([.null, [:]], "dense weights, as they are computed with")),
      row(["quantization_status"], .only(["compressed", "frozen"], "codes, no weights that wait for them")),
      row(["ignore"], .harmless("each tensor says its own type")),
      row(
        ["global_compression_ratio", "version", "run_compressed", "dequantize", "use_optimized_inference"],
        .harmless("how other programs store or compute the same numbers")),
    ], unknown: .refused)

  /// A group of compressed-tensors.
  package static let group = FieldTable(
    [
      row(["weights"], .honoured),
      row(["targets"], .harmless("each tensor says its own type")),
      row(["input_activations", "output_activations"], .harmless("activations are not rounded to fp8")),
      row(["format"], .only([.null, "float-quantized", "naive-quantized"], "fp8")),
    ], unknown: .refused)

  /// The `weights` of a group of compressed-tensors.
  package static let weights = FieldTable(
    [
      row(["strategy"], .honoured),
      row(["block_structure"], .nullable),
      row(["num_bits"], .only([8], "fp8")),
      row(["type"], .only(["float"], "fp8")),
      row(["symmetric"], .only([true], "no zero points")),
      row(["dynamic"], .only([.null, false], "scales that are stored")),
      row(["group_size", "actorder"], .only([.null], "of other strategies")),
      row(["scale_dtype", "zp_dtype"], .harmless("the scales say their own type")),
      row(["observer", "observer_kwargs"], .harmless("how the scales were found")),
    ], unknown: .refused)

  private static func row(_ keys: [String], _ decision: FieldDecision) -> FieldTable.Row {
    FieldTable.Row(keys, decision)
  }

  /// How the weights are scaled; nil for a configuration of another method.
  static func scales(_ quantization: JSON?, path: String) throws(FormatError) -> FP8Scales? {
    guard let quantization, let method = quantization["quant_method"]?.string, methods.contains(method) else {
      return nil
    }
    let place = "quantization_config"
    guard method == "fp8" else { return try compressedScales(quantization, place, path) }
    try check(quantization, table, place, path)
    guard let size = quantization["weight_block_size"]?.unlessNull else { return FP8Scales(.whole) }
    return FP8Scales(try block(size, place + ".weight_block_size", path))
  }

  private static func compressedScales(
    _ quantization: JSON, _ place: String, _ path: String
  ) throws(FormatError) -> FP8Scales {
    try check(quantization, compressed, place, path)
    let format = quantization["format"] ?? .null
    let formats: [JSON] = ["float-quantized", "naive-quantized"]
    guard formats.contains(where: { $0 == format }) else {
      throw .unsupportedModel(
        path: path, field: place + ".format", value: format.text(), supported: formats.map { $0.text() })
    }
    var found: [FP8Scales] = []
    for (name, group) in quantization["config_groups"]?.object ?? JSONObject() {
      try check(group, Self.group, "\(place).config_groups.\(name)", path)
      let (place, weights) = ("\(place).config_groups.\(name).weights", group["weights"] ?? .null)
      guard weights.object != nil else {
        throw .badField(path: path, field: place, value: weights.text(), expected: "an object: weights in fp8")
      }
      try check(weights, Self.weights, place, path)
      let scales: FP8Scales
      switch weights["strategy"]?.string {
      case "tensor": scales = FP8Scales(.whole)
      case "channel": scales = FP8Scales(.rows)
      case "block":
        scales = FP8Scales(try block(weights["block_structure"] ?? .null, place + ".block_structure", path))
      default:
        throw .unsupportedModel(
          path: path, field: place + ".strategy", value: weights["strategy"]?.text() ?? "absent",
          supported: ["\"tensor\"", "\"channel\"", "\"block\""])
      }
      if !found.contains(scales) { found.append(scales) }
    }
    guard found.count == 1 else {
      throw .badField(
        path: path, field: place + ".config_groups", value: "of \(found.count) forms",
        expected: "groups that share the form of their weights")
    }
    return found[0]
  }

  private static func block(_ json: JSON, _ field: String, _ path: String) throws(FormatError) -> FP8Scales.Sharing {
    let sizes = json.array?.compactMap(\.int) ?? []
    guard sizes.count == 2, json.array?.count == 2, sizes.allSatisfy({ (1...1 << 20).contains($0) }) else {
      throw .badField(path: path, field: field, value: json.text(), expected: "rows and columns, 1 to 2^20")
    }
    return .blocks(rows: sizes[0], columns: sizes[1])
  }

  /// Names a field by its place in the whole file.
  private static func check(
    _ json: JSON, _ table: FieldTable, _ place: String, _ path: String
  ) throws(FormatError) {
    do { try table.check(json, path: path) } catch { throw error.naming { "\(place).\($0)" } }
  }
}
