import Tensors

/// The weights of a model under Hugging Face names, whatever file they are in. Safe to read from several threads.
package struct WeightSource: Sendable {
  /// How a tensor is stored.
  package enum Encoding: Sendable, Equatable {
    case plain(SafetensorsType)
    case block(GGMLType)
    /// Of a type that cannot be read; its name.
    case unreadable(String)

    package var name: String {
      switch self {
      case .plain(let type): type.rawValue
      case .block(let type): type.name
      case .unreadable(let name): name
      }
    }
  }

  package struct Tensor: Sendable {
    /// Hugging Face name.
    package let name: String
    package let encoding: Encoding
    /// Row-major; `[out, in]` for linear layers.
    package let shape: [Int]
    package let byteCount: Int
    /// Name inside the file.
    let stored: String
    /// The first of its rows inside a stored tensor of several matrices.
    let firstRow: Int
    /// Name inside the file of the scales of a weight in fp8, which are no tensor of their own.
    var scales: String?
    var placement = Placement.rows
    package var rowLength: Int { shape.last ?? 1 }
    /// All dimensions but the last; 1 for a vector.
    package var rowCount: Int { shape.dropLast().reduce(1, *) }
  }

  enum Origin: Sendable {
    case safetensors(WeightFiles)
    case gguf(GGUFFile, queryHeads: Int, keyHeads: Int)
  }

  package let path: String
  package let tensors: [Tensor]
  /// Tensors of a GGUF file that its layout has no name for.
  package let strangers: [String]
  /// Tensors that belong to other parts than the model, under their names in the file.
  package let passedOver: [String]
  let origin: Origin
  /// How the tensors of a GGUF file are laid out.
  let layout: GGUFLayout?
  /// How weights in fp8 are scaled; nil where nothing says so.
  let fp8: FP8Scales?
  private let index: [UTF8Key: Int]

  /// Opens a folder with safetensors, or one `.safetensors` or `.gguf` file. A folder without safetensors but with
  /// exactly one `.gguf` file opens that one.
  /// - Parameters:
  ///   - path: of the folder or the file.
  ///   - layout: gives the layout of a GGUF architecture; without one tensors keep their names in the file.
  ///   - renaming: what tensors of safetensors are called here; nil for one that is no part of the model.
  ///   - fp8: how weights in fp8 are scaled.
  ///   - stacks: which of them hold tensors of several modules.
  /// - Throws: `FormatError` naming the file.
  package init(
    path: String, layout: (GGUFFile) -> GGUFLayout? = { _ in nil }, renaming: (String) -> String? = { $0 },
    fp8: FP8Scales? = nil, stacks: TensorStacks = TensorStacks()
  ) throws(FormatError) {
    if FileSystem.isDirectory(path) {
      let names = try FileSystem.list(path)
      let ggufs = names.filter { $0.hasSuffix(".gguf") }
      if !names.contains(where: { $0.hasPrefix(FileName.weights) }), ggufs.count == 1 {
        self = try WeightSource(gguf: try GGUFFile(path: path + "/" + ggufs[0]), layout: layout)
        return
      }
    } else if path.hasSuffix(".gguf") {
      self = try WeightSource(gguf: try GGUFFile(path: path), layout: layout)
      return
    }
    self = try WeightSource(files: try WeightFiles(directory: path), renaming: renaming, fp8: fp8, stacks: stacks)
  }

  package init(
    files: WeightFiles, renaming: (String) -> String? = { $0 }, fp8: FP8Scales? = nil,
    stacks: TensorStacks = TensorStacks()
  ) throws(FormatError) {
    var parts: Set<UTF8Key> = []
    var tensors: [Tensor] = []
    var passedOver: [String] = []
    for file in files.files {
      for entry in file.entries {
        guard let name = renaming(entry.name) else {
          passedOver.append(entry.name)
          continue
        }
        if let stacked = try stacks.tensors(
          in: entry, named: name, path: file.path, find: { (try? files.find($0))?.entry })
        {
          tensors += stacked
          continue
        }
        let scales = Self.scales(of: entry, in: files)
        if let scales { parts.insert(UTF8Key(scales)) }
        tensors.append(
          Tensor(
            name: name, encoding: .plain(entry.type), shape: entry.shape, byteCount: entry.byteCount,
            stored: entry.name, firstRow: 0, scales: scales))
      }
    }
    try self.init(
      path: files.path, tensors: tensors.filter { !parts.contains(UTF8Key($0.stored)) }, strangers: [],
      passedOver: passedOver, origin: .safetensors(files), layout: nil, fp8: fp8)
  }

  /// Tensors that the layout has no name for (`rope_freqs.weight`) are `strangers`.
  package init(gguf: GGUFFile, layout: (GGUFFile) -> GGUFLayout?) throws(FormatError) {
    let architecture = gguf.metadata["general.architecture"]?.string ?? ""
    let layout = layout(gguf)
    let tensors = gguf.tensors.flatMap { tensor -> [Tensor] in
      if let layout, layout.isPartner(tensor.name) || layout.isSplitOff(tensor.name) { return [] }
      let encoding = tensor.type.map { Encoding.block($0) } ?? .unreadable(GGMLType.name(of: tensor.typeNumber))
      if let name = layout?.stack(tensor.name), tensor.shape.count == (tensor.name.hasSuffix(".bias") ? 2 : 3),
        (1...TensorStacks.mostMatrices).contains(tensor.shape[0])
      {
        return stacked(tensor, encoding, name, partner: layout?.partner(of: tensor.name), gguf)
      }
      if let layout, let whole = split(tensor, encoding, layout, gguf) { return [whole] }
      guard let name = layout.map({ $0.huggingFace(tensor.name) }) ?? tensor.name else { return [] }
      var shape = tensor.shape
      if shape.count == 2, layout?.isConvolution(name) ?? false { shape.insert(1, at: 1) }
      return [
        Tensor(
          name: name, encoding: encoding, shape: shape, byteCount: tensor.byteCount, stored: tensor.name, firstRow: 0)
      ]
    }
    var (heads, keyHeads) = (0, 0)
    if let layout, layout.pairsHeads || layout.fusedHeads != nil {
      heads = gguf.metadata[architecture + ".attention.head_count"]?.int ?? 0
      keyHeads = gguf.metadata[architecture + ".attention.head_count_kv"]?.int ?? heads
    }
    try self.init(
      path: gguf.path, tensors: tensors,
      strangers: layout.map { layout in
        gguf.tensors.map(\.name).filter {
          layout.huggingFace($0) == nil && layout.stack($0) == nil && !layout.isAhead($0) && layout.split($0) == nil
            && !layout.isSplitOff($0) && !(layout.isPartner($0) && gguf.contains(layout.partner(of: $0) ?? ""))
        }
      } ?? [],
      passedOver: layout.map { layout in gguf.tensors.map(\.name).filter { layout.isAhead($0) } } ?? [],
      origin: .gguf(gguf, queryHeads: heads, keyHeads: keyHeads), layout: layout)
  }

  private init(
    path: String, tensors: [Tensor], strangers: [String], passedOver: [String], origin: Origin, layout: GGUFLayout?,
    fp8: FP8Scales? = nil
  ) throws(FormatError) {
    self.path = path
    self.fp8 = fp8
    self.tensors = tensors
    self.strangers = strangers
    self.passedOver = passedOver
    self.origin = origin
    self.layout = layout
    var index: [UTF8Key: Int] = [:]
    for (at, tensor) in tensors.enumerated() {
      guard index.updateValue(at, forKey: UTF8Key(tensor.name)) == nil else {
        throw .duplicate(path: path, name: tensor.name)
      }
    }
    self.index = index
  }

  /// The GGUF file behind this source, for its metadata (config, tokenizer).
  package var gguf: GGUFFile? { if case .gguf(let file, _, _) = origin { file } else { nil } }

  /// What is to be said about the files.
  package var said: [String] { if case .safetensors(let files) = origin { files.said } else { [] } }

  /// Whether weights are stored in fp8.
  package var hasFP8: Bool { tensors.contains { $0.scales != nil } }

  package func contains(_ name: String) -> Bool { index[UTF8Key(name)] != nil }

  package func tensor(_ name: String) throws(FormatError) -> Tensor {
    guard let at = index[UTF8Key(name)] else { throw .missingTensor(path: path, tensor: name) }
    return tensors[at]
  }

  /// The tensor, if it has the expected shape; else an error that names file, tensor and both shapes.
  @discardableResult
  package func expect(_ name: String, shape: [Int]) throws(FormatError) -> Tensor {
    let tensor = try tensor(name)
    guard tensor.shape == shape else {
      throw .shape(path: path, tensor: name, expected: shape, actual: tensor.shape)
    }
    return tensor
  }
}

/// The matrix whose gates lie in another tensor; nil for a tensor that is whole. Parts of a wrong shape stay alone, and
/// are then of the wrong shape.
private func split(
  _ tensor: GGUFFile.Tensor, _ encoding: WeightSource.Encoding, _ layout: GGUFLayout, _ file: GGUFFile
) -> WeightSource.Tensor? {
  guard let (gates, name) = layout.split(tensor.name), let rows = layout.deltaNet?.splitRows else { return nil }
  var whole = WeightSource.Tensor(
    name: name, encoding: encoding, shape: tensor.shape, byteCount: tensor.byteCount, stored: tensor.name, firstRow: 0)
  guard let other = try? file.tensor(gates), tensor.shape.count == 2, tensor.shape[0] == rows.rows,
    other.shape == [rows.gates, tensor.shape[1]]
  else { return whole }
  whole = WeightSource.Tensor(
    name: name, encoding: encoding, shape: [rows.rows + rows.gates, tensor.shape[1]],
    byteCount: tensor.byteCount + other.byteCount, stored: tensor.name, firstRow: 0, placement: .perHead(gates: gates))
  return whole
}

/// The matrices or biases of a stored tensor that has one for each expert. With a partner, of the same shape, the rows
/// of both alternate; without its partner a tensor stays alone, and is then of the wrong shape.
private func stacked(
  _ tensor: GGUFFile.Tensor, _ encoding: WeightSource.Encoding, _ name: (Int) -> String, partner: String?,
  _ file: GGUFFile
) -> [WeightSource.Tensor] {
  let count = tensor.shape[0]
  var shape = Array(tensor.shape.dropFirst())
  let rows = shape.dropLast().reduce(1, *)
  var (placement, byteCount) = (WeightSource.Placement.rows, tensor.byteCount / count)
  if let partner, let other = try? file.tensor(partner), other.shape == tensor.shape {
    shape[0] *= 2
    placement = .alternating(with: partner)
    byteCount += other.byteCount / count
  }
  return (0..<count).map {
    WeightSource.Tensor(
      name: name($0), encoding: encoding, shape: shape, byteCount: byteCount, stored: tensor.name, firstRow: $0 * rows,
      placement: placement)
  }
}
