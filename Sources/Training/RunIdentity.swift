import Formats
import Models
import Optimizers
import Quantization
import Ranks
import Tensors

/// The version of the engine, which checkpoints name.
package let engineVersion = "0.1.0"

/// All that decides what the next steps of a run compute, besides the state that a checkpoint holds: two runs of the
/// same identity that load the same checkpoint go on with the same bits.
///
/// Memory is not part of it: threads, paging, recomputing and streaming change no bit.
public struct RunIdentity: Sendable {
  /// Values by name; objects inside for the parts. Numbers, texts and truth values.
  public let values: JSONObject

  /// The names of the parts that `init` makes; a loop's own values have others.
  package static let parts = ["engine", "kernels", "base", "adapters", "optimizer", "lr", "data"]

  /// The identity of a run.
  /// - Parameters:
  ///   - model: its frozen weights count by shapes and a sample of their bytes, its adapters by their settings.
  ///   - optimizer: its rule with all numbers and the width of its state; the learning rate is a part of its own.
  ///   - samples: count by the hash of their ids and labels.
  ///   - loop: what the training loop decides by: seed, batch, schedule and so on; none of the names in `parts`.
  ///   - ranks: those that hold the stages of the model, which all come here and get the identity of the whole.
  /// - Throws: `TensorError` when the device or a file under the weights cannot be read; `RankError`.
  public init(
    _ model: LanguageModel, _ optimizer: OptimizerOptions? = nil, _ samples: Samples? = nil,
    loop: JSONObject = JSONObject(), ranks: Ranks = .alone
  ) throws {
    var values = loop
    values["engine"] = .string(engineVersion)
    values["kernels"] = .string("\(model.backend.name) \(model.backend.kernelName)")
    values["base"] = try RunIdentity.base(model, ranks)
    values["adapters"] = .object(JSONObject(try model.adapters.map(RunIdentity.adapter)))
    if let optimizer {
      values["optimizer"] = try RunIdentity.optimizer(optimizer)
      values["lr"] = RunIdentity.number(optimizer.learningRate)
    }
    if let samples {
      let sums = samples.statistics
      values["data"] = [
        "samples": .int(samples.count), "tokens": .int(sums.tokens), "trained": .int(sums.trained),
        "sha256": .string(try samples.contentHash()),
      ]
    }
    self.values = values
  }

  private static func base(_ model: LanguageModel, _ ranks: Ranks) throws -> JSON {
    let spec = model.spec
    let numbers: [any Sendable] = [
      spec.headCount, spec.keyValueHeadCount, spec.headDimension, spec.layers, spec.normEpsilon, spec.rope,
      spec.tiesEmbeddings, spec.isParallel, spec.embeddingScale, spec.residualScale, spec.queryKeyScale,
      spec.logitScale, spec.scoreCap ?? 0, spec.logitCap ?? 0, spec.activation, spec.normalization,
      "\(String(describing: spec.experts))",
    ]
    let held = model.heldModules, quantized = held.compactMap(\.quantized)
    func kinds(_ texts: [String]) throws -> JSON {
      var all = Set(texts)
      if model.stage != nil {
        for own in try ranks.gather(Array(texts.joined(separator: "\n").utf8), at: "base") {
          all.formUnion(String(decoding: own, as: UTF8.self).split(separator: "\n").map(String.init))
        }
      }
      return .string(all.sorted().joined(separator: ", "))
    }
    var hash = SHA256()
    if model.stage == nil {
      for module in held { try sample(module) { hash.update($0) } }
    } else {
      // The stages follow each other as their modules do.
      var own: [UInt8] = []
      for module in held { try sample(module) { own += $0 } }
      for part in try ranks.gather(own, at: "base") { part.withUnsafeBytes { hash.update($0) } }
    }
    return [
      "architecture": .string(spec.modelType), "config": .string(SHA256.hash(of: "\(numbers)")),
      "compute": .string(model.computeType.name),
      "quant": try kinds(held.compactMap(\.storedForm)),
      "block": try kinds(quantized.map { "\($0.blockSize)" }),
      "double_quant": try kinds(quantized.map { "\($0.nested != nil)" }),
      "weights": .string(hash.finish()),
    ]
  }

  /// Names, types and shapes of what is frozen, and 3 x 1024 bytes of each tensor: its start, middle and end. Reading
  /// all would take as long as loading.
  private static func sample(_ module: Module, _ take: (UnsafeRawBufferPointer) -> Void) throws {
    let quantized = module.quantized
    let tensors = [
      module.weight, module.bias, quantized?.codes, quantized?.absmax, quantized?.codebook, quantized?.nested?.absmax,
      module.blocks?.bytes,
    ]
    for (place, tensor) in tensors.enumerated() {
      guard let tensor, !tensor.requiresGradient, tensor.elementCount > 0 else { continue }
      let what = "\(module.name) \(place) \(tensor.dtype.name) \(tensor.shape) \(quantized?.nested?.offset ?? 0)\n"
      Array(what.utf8).withUnsafeBytes(take)
      let flat = try tensor.viewed([tensor.elementCount])
      let count = min(flat.elementCount, 1024 / tensor.dtype.byteCount)
      for start in [0, (flat.elementCount - count) / 2, flat.elementCount - count] {
        try flat.narrowed(0, start..<start + count).withHostBytes { take($0) }
      }
    }
  }

  private static func adapter(_ adapter: Adapter) throws -> (String, JSON) {
    var values = JSONObject(adapter.method.settings.map { ($0.name, $0.value) })
    values["kind"] = .string(adapter.kind)
    if let branch = adapter.lowRank { values["scaling"] = number(branch.scaling) }
    let factors = adapter.parameters.map { $0.learningRateFactor }
    values["lr_factor"] = Set(factors).count == 1 ? .number(factors[0]) : .array(factors.map { .number($0) })
    if !adapter.isTrained {
      var hash = SHA256()
      for tensor in adapter.tensors { try tensor.withHostBytes { hash.update($0) } }
      values["values"] = .string(hash.finish())
    }
    let isDefault = adapter.setName == AdapterSet.defaultName
    return ((isDefault ? "" : adapter.setName + ":") + adapter.moduleName, .object(values))
  }

  private static func optimizer(_ options: OptimizerOptions) throws -> JSON {
    var values = JSONObject([("kind", .string(options.rule.name)), ("bits", .int(options.bits))])
    for (name, numbers) in try options.rule.values(options.values).sorted(by: { $0.key < $1.key })
    where name != Hyperparameter.learningRate.name {
      values[name] = numbers.count == 1 ? number(numbers[0]) : .array(numbers.map { number($0) })
    }
    return .object(values)
  }

  /// The shortest decimal number that is this one, for people to read.
  private static func number(_ value: Float) -> JSON { .number(Double("\(value)") ?? Double(value)) }
}

// MARK: Comparing

extension RunIdentity {
  /// A value that is not what it was.
  public struct Difference: Equatable, Sendable {
    /// Names from the outside in: `["optimizer", "weight_decay"]`.
    public let path: [String]
    /// In the checkpoint; nil when there was none.
    public let was: JSON?
    /// Nil when there is none any more.
    public let now: JSON?
  }

  /// What differs from a stored identity, in the order of its names. An identity without samples is not that of a run
  /// that trains on: it is compared only in what it speaks of.
  public func differences(from saved: JSONObject) -> [Difference] {
    let known = values["data"] == nil ? JSONObject(saved.filter { values[$0.0] != nil }) : saved
    return RunIdentity.differences(.object(known), .object(values), at: [])
  }

  private static func differences(_ was: JSON?, _ now: JSON?, at path: [String]) -> [Difference] {
    if case .object(let before)? = was, case .object(let after)? = now {
      let keys = before.keys + after.keys.filter { before[$0] == nil }
      return keys.flatMap { differences(before[$0], after[$0], at: path + [$0]) }
    }
    // A number is the same with and without a fraction of zero.
    if let a = was?.double, let b = now?.double, a == b { return [] }
    return was == now ? [] : [Difference(path: path, was: was, now: now)]
  }
}

extension RunIdentity.Difference {
  /// The differences in words; those of many modules that are alike become one. At most eight.
  static func text(_ differences: [Self]) -> [String] {
    var groups: [(first: Self, count: Int)] = []
    for difference in differences {
      let index = groups.firstIndex { group in
        group.first.path.first == difference.path.first && group.first.role == difference.role
          && group.first.was == difference.was && group.first.now == difference.now
      }
      if let index { groups[index].count += 1 } else { groups.append((difference, 1)) }
    }
    let lines = groups.prefix(8).map { first, count in
      first.name + (count > 1 ? " (and \(count - 1) more)" : "")
        + " was \(short(first.was)) and is \(short(first.now)) now"
    }
    return lines + (groups.count > 8 ? ["\(groups.count - 8) more differ"] : [])
  }

  /// What modules that are alike have in common: "alpha", "v_proj".
  private var role: Substring? { path.last?.split(separator: ".").last }

  /// `optimizer.weight_decay`.
  package var name: String { path.joined(separator: ".") }

  /// A value as text of at most 60 characters, a hash by its first digits.
  package static func short(_ value: JSON?) -> String {
    guard let value else { return "absent" }
    let text = value.string ?? value.text()
    if text.count == 64, text.allSatisfy(\.isHexDigit) { return text.prefix(12) + "..." }
    return text.isEmpty ? "none" : text.count > 60 ? text.prefix(56) + " ..." : text
  }
}
