import Formats
import Tensors

/// A checkpoint that is open for reading: its spec, its weights, and what is to be said about its files. Every tensor
/// in it has a fate: a module reads it, it is a known leftover, or it is an error.
struct Checkpoint {
  private(set) var spec: DecoderSpec
  let source: LoadedSource
  private(set) var said: [String]

  /// Opens the files and compares configuration and tensors.
  /// - Throws: `ModelError.missingHead`; `.unknownTensor` for a tensor that nothing reads; `FormatError`.
  init(_ location: ModelLocation) throws {
    (spec, said) = try location.specAndNotices()
    source = try location.weights()
    said += source.said
    try settleHead()
    settleQuantization()
    try checkFates()
  }

  /// A tied model whose file has an output matrix of its own: where the values differ, the file is not tied, whatever
  /// config.json says; so it is in transformers. One that is not tied needs the matrix.
  private mutating func settleHead() throws {
    let (head, embedding) = (spec.outerNames.output + ".weight", spec.outerNames.embedding + ".weight")
    guard spec.tiesEmbeddings || source.contains(head) else {
      throw ModelError.missingHead(name: head, path: source.path)
    }
    guard spec.tiesEmbeddings, source.contains(head), source.contains(embedding) else { return }
    let shape = [spec.vocabularySize, spec.hiddenSize]
    for name in [head, embedding] { try source.expect(name, shape: shape) }
    guard try !source.isSame(head, embedding) else { return }
    spec.tiesEmbeddings = false
    said.append(
      "\(source.path): config.json ties the output matrix to the embedding, but \(head) has other values; "
        + "it is used, as in transformers")
  }

  /// quantization_config belongs to weights in 4 bits or fp8; without any it is a leftover of the model they came from.
  /// What is read of fp8 is wide.
  private mutating func settleQuantization() {
    guard spec.quantizationConfig != nil, !source.names.contains(where: { Self.stem(of: $0) != nil }) else { return }
    spec.quantizationConfig = nil
    said.append(
      source.hasFP8
        ? "\(source.path): weights are stored in fp8; they are decoded, and activations are not rounded to fp8"
        : "\(source.path): config.json speaks of weights in few bits, but they are stored wide and read so")
  }

  private mutating func checkFates() throws {
    var read: Set<String> = []
    var others = source.passedOver
    let family = Families.named(spec.modelType)
    let (leftovers, parts) = (family?.leftovers ?? [], family?.leftoverParts ?? [])
    for module in ModuleTree(spec).modules {
      read.insert(module.weightName)
      if module.hasBias { read.insert(module.name + ".bias") }
    }
    for name in source.names where !read.contains(name) {
      if let stem = Self.stem(of: name), read.contains(stem) { continue }
      // What old checkpoints store of the rotation follows from config.json.
      if name.hasSuffix(".rotary_emb.inv_freq") || leftovers.contains(where: { name.hasSuffix($0) }) { continue }
      if parts.contains(where: { name.hasPrefix($0) }) {
        others.append(name)
        continue
      }
      // Scales of activations, which are not rounded.
      if source.hasFP8, name.hasSuffix(".input_scale") || name.hasSuffix(".activation_scale") { continue }
      if spec.tiesEmbeddings, name == spec.outerNames.output + ".weight" { continue }
      throw ModelError.unknownTensor(name: name, path: source.path)
    }
    for name in source.strangers where !Rope.ggufTensors.contains(name) {
      throw ModelError.unknownTensor(name: name, path: source.path)
    }
    guard !others.isEmpty else { return }
    said.append(
      "\(source.path): \(others.count) tensors of other parts than the text model are not read: "
        + Set(others.map(Self.part)).sorted().joined(separator: ", "))
  }

  /// What a tensor is a part of: `mtp`, `visual`, and of a GGUF file the layer: `blk.40`.
  private static func part(of name: String) -> String {
    let parts = name.split(separator: ".").drop { $0 == "model" }
    return parts.prefix(parts.first == "blk" ? 2 : 1).joined(separator: ".")
  }

  /// The weight of whose 4-bit form this tensor is a part; nil for other tensors.
  private static func stem(of name: String) -> String? {
    let suffixes =
      [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"]
      + FourBitKind.allCases.map { ".quant_state.bitsandbytes__\($0.rawValue)" }
    return suffixes.first { name.hasSuffix(".weight" + $0) }.map { String(name.dropLast($0.count)) }
  }
}
