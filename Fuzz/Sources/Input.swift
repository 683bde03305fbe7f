import Formats

/// What a driver reads: one file or the files of a folder, by name.
struct Input {
  struct File {
    let name: String
    var bytes: [UInt8]
  }
  var files: [File]

  /// The files one after the other: length of the name, name, length of the bytes, bytes.
  var serialized: [UInt8] {
    var out: [UInt8] = []
    func append(_ part: [UInt8]) {
      withUnsafeBytes(of: UInt32(part.count).littleEndian) { out += $0 }
      out += part
    }
    for file in files {
      append(Array(file.name.utf8))
      append(file.bytes)
    }
    return out
  }

  /// Reads back what `serialized` gave, as far as it goes.
  init(serialized bytes: UnsafeRawBufferPointer) {
    files = []
    var at = 0
    func part() -> [UInt8]? {
      guard at + 4 <= bytes.count else { return nil }
      let count = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
      guard at + 4 + count <= bytes.count else { return nil }
      defer { at += 4 + count }
      return Array(bytes[at + 4..<at + 4 + count])
    }
    while let name = part(), let content = part() {
      files.append(File(name: String(decoding: name, as: UTF8.self), bytes: content))
    }
  }

  /// A seed or a kept input: one file, or all files of a folder and of those in it.
  init(path: String) throws {
    files = []
    guard FileSystem.isDirectory(path) else {
      files = [try File(name: String(path.split(separator: "/").last ?? "input"), bytes: Self.bytes(path))]
      return
    }
    func walk(_ folder: String, _ prefix: String) throws {
      for name in try FileSystem.list(folder) {
        if FileSystem.isDirectory("\(folder)/\(name)") {
          try walk("\(folder)/\(name)", prefix + name + "/")
        } else {
          files.append(try File(name: prefix + name, bytes: Self.bytes("\(folder)/\(name)")))
        }
      }
    }
    try walk(path, "")
  }

  private static func bytes(_ path: String) throws -> [UInt8] { try MappedFile(path: path).withBytes { Array($0) } }
}

/// The seeds of a driver: each entry of its folder in Fuzz/Corpus.
struct Corpus {
  let seeds: [Input]

  init(_ seeds: [Input]) { self.seeds = seeds }

  init(folder: String) throws { seeds = try FileSystem.list(folder).map { try Input(path: "\(folder)/\($0)") } }

  /// Input `number` of a run: a seed with one mutation, or up to four. One in 50 stays as it is, so that every run also
  /// proves that the seeds are accepted.
  func input(_ random: inout Random) -> Input {
    var input = random.pick(seeds)
    guard !random.once(in: 50) else { return input }
    for _ in 0...(random.once(in: 2) ? 0 : random.below(4)) {
      let at = random.below(input.files.count)
      let other = random.pick(seeds)
      let name = input.files[at].name
      let twin = other.files.first { $0.name == name } ?? random.pick(other.files)
      input.files[at].bytes = mutated(input.files[at].bytes, named: name, with: twin.bytes, &random)
    }
    return input
  }
}

/// One mutation that suits the kind of file.
private func mutated(
  _ bytes: [UInt8], named name: String, with other: [UInt8], _ random: inout Random
) -> [UInt8] {
  if random.once(in: 4) { return ByteMutator.mutated(bytes, with: other, &random) }
  switch name.split(separator: ".").last {
  case "json": return JSONMutator.mutated(bytes, with: other, &random)
  case "jsonl": return LineMutator.mutated(bytes, with: other, &random)
  case "safetensors": return SafetensorsMutator.mutated(bytes, with: other, &random)
  case "gguf": return GGUFMutator.mutated(bytes, with: other, &random)
  case "model": return ProtobufMutator.mutated(bytes, with: other, &random)
  case "regex": return PatternMutator.mutated(bytes, with: other, &random)
  default: return ByteMutator.mutated(bytes, with: other, &random)
  }
}
