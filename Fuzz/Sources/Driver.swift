import Formats
import Glibc

/// Reads inputs of one kind, and uses what it has read. A worker has one driver.
protocol Driver: AnyObject {
  /// Reads the input that lies in `folder` and uses it.
  /// - Throws: what the reader throws: the input is refused.
  func read(_ folder: String, _ input: Input, _ random: inout Random) throws
}

/// A row of the table of drivers.
struct DriverKind: Sendable {
  let name: String
  /// What is read, for the table of results.
  let reads: String
  /// Share of the inputs of a run over all readers; 0 keeps a driver out of it.
  let share: Int
  /// Whether refusals must name a file.
  var namesFiles = true
  /// The driver and its seeds. `scratch` is a folder of the worker's own.
  let make: @Sendable (_ scratch: String, _ place: Place) throws -> (any Driver, Corpus)
}

/// Where a run finds what it needs.
struct Place {
  /// The folder of the package, with `stdlib` and `Fuzz`.
  let root: String
  /// Most bytes of tensors.
  let memory: Int
  let record: Record?

  func corpus(_ name: String) throws -> Corpus { try Corpus(folder: "\(root)/Fuzz/Corpus/\(name)") }
}

extension DriverKind {
  /// The drivers, in the order of a run.
  static let all: [DriverKind] = [
    DriverKind(name: "safetensors", reads: "safetensors: header, index, shards, tensors", share: 200) { _, place in
      (SafetensorsDriver(memory: place.memory), try place.corpus("safetensors"))
    },
    DriverKind(name: "gguf", reads: "GGUF: header, tensors, config, tokenizer, forward pass", share: 100) { _, place in
      (GGUFDriver(memory: place.memory), try place.corpus("gguf"))
    },
    DriverKind(name: "config", reads: "config.json of every family, forward pass", share: 200) { _, place in
      (ConfigDriver(memory: place.memory), try place.corpus("config"))
    },
    DriverKind(name: "model", reads: "model folders: config, weights in 16 and 4 bits, forward pass", share: 50) {
      _, place in (ModelDriver(memory: place.memory), try place.corpus("model"))
    },
    DriverKind(
      name: "tokenizer", reads: "tokenizer.json, tokenizer.model and their configurations; encode, decode", share: 120
    ) {
      _, place in (TokenizerDriver(), try place.corpus("tokenizer"))
    },
    DriverKind(name: "regex", reads: "regular expressions and texts", share: 60, namesFiles: false) { _, place in
      (PatternDriver(), try place.corpus("regex"))
    },
    DriverKind(name: "adapter", reads: "adapters of PEFT and mlx-lm: configuration, tensors, forward pass", share: 100)
    { _, place in
      (try AdapterDriver(memory: place.memory), try place.corpus("adapter"))
    },
    DriverKind(name: "records", reads: "records: JSON, JSON lines, CSV, TSV, text", share: 100) { _, place in
      (RecordsDriver(), try place.corpus("records"))
    },
    DriverKind(name: "samples", reads: "records as training samples, by format and chat template", share: 20) {
      scratch, place in (try LuaDriver(script: "samples", scratch, place), try place.corpus("samples"))
    },
    DriverKind(
      name: "jinja", reads: "chat templates, rendered on conversations", share: 40, namesFiles: false
    ) { scratch, place in
      (try LuaDriver(script: "jinja", scratch, place), try place.corpus("jinja"))
    },
    DriverKind(name: "requests", reads: "requests to qlora-run serve", share: 20, namesFiles: false) {
      scratch, place in (try LuaDriver(script: "requests", scratch, place), try place.corpus("requests"))
    },
    DriverKind(name: "checkpoint", reads: "training checkpoints: state, weights, optimizer, next step", share: 20) {
      scratch, place in
      let driver = try LuaDriver(script: "checkpoint", scratch, place)
      return (driver, Corpus(try driver.seeds()))
    },
    DriverKind(name: "journal", reads: "run folders: params, journal, summary; report, index", share: 30) {
      scratch, place in
      let driver = try LuaDriver(script: "journal", scratch, place)
      return (driver, Corpus(try driver.seeds()))
    },
    DriverKind(
      name: "calls", reads: "calls of the live Lua API with hostile values", share: 0, namesFiles: false
    ) { scratch, place in
      (try LuaDriver(script: "calls", scratch, place), Corpus([]))
    },
  ]
}

/// The files of an input in a folder of its own, in memory. Only what changed since the last input is written.
final class Folder {
  let path: String
  private var files: [String: [UInt8]] = [:]

  init(_ path: String) throws {
    self.path = path
    try FileSystem.makeDirectory(path)
  }

  /// Makes the folder hold these files and no others.
  func hold(_ input: Input) throws {
    let names = Set(input.files.map(\.name))
    for name in files.keys where !names.contains(name) {
      unlink("\(path)/\(name)")
      files[name] = nil
    }
    // The list of checksums is one that the driver of checkpoints writes anew.
    for file in input.files where files[file.name] != file.bytes || file.name == "SHA256SUMS" {
      let target = "\(path)/\(file.name)"
      if let slash = target.lastIndex(of: "/") { try FileSystem.makeDirectory(String(target[..<slash])) }
      // A new file: the old one may still be mapped.
      unlink(target)
      let descriptor = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else { throw FormatError.system(path: target, operation: "open", code: errno) }
      defer { close(descriptor) }
      let written = file.bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard written == file.bytes.count else {
        throw FormatError.system(path: target, operation: "write", code: errno)
      }
      files[file.name] = file.bytes
    }
  }
}
