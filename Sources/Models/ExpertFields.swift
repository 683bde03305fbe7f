import Formats

/// What the families with experts read and write alike.
enum ExpertFields {
  static let keys: [String: FieldDecision] = [
    // transformers 5 takes either name of the number of experts.
    "num_experts": .honoured, "num_local_experts": .honoured, "num_experts_per_tok": .honoured,
    "router_aux_loss_coef": .honoured, "output_router_logits": .honoured,
  ]
  static let ggufKeys: [String: FieldDecision] = [
    "expert_count": .honoured, "expert_used_count": .honoured, "expert_feed_forward_length": .honoured,
  ]

  /// Reads the numbers, with these where nothing is said, and gives experts to the layers that `has` chooses.
  static func read(
    _ fields: ConfigFields, count usual: Int, perToken: Int, width: Int, normalizes: Bool, coefficient: Double,
    into spec: inout DecoderSpec, has: (Int) -> Bool
  ) throws(FormatError) {
    let names = ["num_experts", "num_local_experts"]
    var counts: [Int] = []
    for name in names { if let value = try fields.integer(name) { counts.append(value) } }
    guard Set(counts).count < 2 else {
      throw .badField(
        path: fields.path, field: names[1], value: "\(counts[1])", expected: "\(counts[0]), as \(names[0]) says")
    }
    let count = counts.first ?? usual
    guard count != 0 else { return }
    var numbers = ExpertNumbers(
      count: count, perToken: try fields.integer("num_experts_per_tok") ?? perToken, width: width,
      normalizesWeights: normalizes, balanceCoefficient: try fields.double("router_aux_loss_coef") ?? coefficient)
    numbers.addsBalance = try fields.bool("output_router_logits") ?? false
    spec.experts = numbers
    for index in spec.layers.indices { spec.layers[index].hasExperts = has(index) }
  }

  /// Every layer has experts.
  static func read(
    _ fields: GGUFFields, normalizes: Bool, into spec: inout DecoderSpec
  ) throws(FormatError) {
    let width = try fields.integer("expert_feed_forward_length").flatMap { $0 == 0 ? nil : $0 }
    spec.experts = ExpertNumbers(
      count: try fields.required("expert_count"), perToken: try fields.required("expert_used_count"),
      width: width ?? spec.intermediateSize, normalizesWeights: normalizes)
    if spec.modules.experts?.shared != nil {
      spec.experts?.sharedWidth = try fields.required("expert_shared_feed_forward_length")
    }
    for index in spec.layers.indices { spec.layers[index].hasExperts = true }
  }

  static func write(_ spec: DecoderSpec, countKey: String, into json: inout JSONObject) {
    guard let experts = spec.experts else {
      json[countKey] = 0
      return
    }
    json[countKey] = .int(experts.count)
    json["num_experts_per_tok"] = .int(experts.perToken)
    json["router_aux_loss_coef"] = .number(experts.balanceCoefficient)
    json["output_router_logits"] = .bool(experts.addsBalance)
  }
}
