import Formats
import Glibc
import Hub
import LuaRuntime

extension Engine {
  var fetchFunction: NativeFunction {
    NativeFunction(
      "fetch",
      "Where the model or the data file of a name lies: a path as it is, what the hub has in its cache. What the cache "
        + "lacks is fetched, but not under --plan, --smoke and --sandbox. qlora.load and qlora.data.load call it.",
      [
        Parameter("name", .string, "a path, ORGANISATION/NAME, or hf://[datasets/]ORGANISATION/NAME[@REVISION][/FILE]"),
        Parameter(
          "options",
          .options([
            Parameter("cached", .boolean, default: "false", "only look into the cache"),
            Parameter("revision", .string, optional: true, "branch, tag or commit; default that of the name, or main"),
            Parameter("file", .string, optional: true, "one file of the repository; default what a model needs"),
          ]), optional: true, "the options below"),
      ], returns: "string", errors: "when the hub has no such thing, or does not let you have it",
      example: #"assert(qlora.native.fetch(qlora.resource "models/tiny") == qlora.resource "models/tiny")"#
    ) { call in
      let options = call.options("options")
      return [
        .string(
          try self.located(
            try call.string("name"), fetches: options.bool("cached") != true, revision: options.string("revision"),
            file: options.string("file")))
      ]
    }
  }

  /// A name of the hub as ModelLoader and readers of records take it.
  func located(
    _ text: String, fetches: Bool = true, revision: String? = nil, file: String? = nil
  ) throws -> String {
    let isMarked = HubName.isMarked(text) || revision != nil || file != nil
    if !isMarked {
      let isFile = ["gguf", "json", "safetensors"].contains { text.hasSuffix("." + $0) }
      // A folder of the name's first part says that a path was meant.
      let parent = text.split(separator: "/").first.map(String.init) ?? ""
      guard HubName.looksLikeModel(text), !isFile, !FileSystem.exists(text), !FileSystem.isDirectory(parent) else {
        return text
      }
    }
    var name = try HubName(text)
    name.revision = revision ?? name.revision
    name.file = file ?? name.file
    try name.check()
    let hub = try Hub(HubSettings(), report: report)
    // Folders keep the name, by which checkpoints and adapters know their base.
    func named(_ path: String) -> String { !isMarked && FileSystem.isDirectory(path) ? text : path }
    if let path = hub.cached(name) { return named(path) }
    guard fetches, !options.plan, !options.smoke else {
      if !isMarked { return text }
      throw FormatError.notCached(name: name.text, looked: [hub.folder])
    }
    do {
      return named(try hub.fetch(name))
    } catch let error as HubError where !isMarked {
      if case .interrupted = error { throw error }
      throw HubError.neither(path: text, error)
    }
  }

  private func report(_ progress: FetchProgress) {
    if options.quiet { return }
    FetchLine.show(progress)
  }
}

/// The progress of a download on standard error: a line that is written anew on a terminal, else the end alone.
private enum FetchLine {
  static func show(_ progress: FetchProgress) {
    let isTerminal = isatty(2) == 1
    guard isTerminal || progress.isEnd else { return }
    let text = (isTerminal ? "\r" : "") + progress.line + (isTerminal ? "\u{1B}[K" : "") + (progress.isEnd ? "\n" : "")
    let bytes = Array(text.utf8)
    _ = write(2, bytes, bytes.count)
  }
}
