import Formats
import Glibc
import LuaRuntime
import Models
import Tensors
import Tokenizers
import Training

package let qloraVersion = engineVersion
package let checkpointPrefix = TrainingCheckpoint.namePrefix

extension Engine {
  /// What the library needs of the machine and its files.
  var machineModule: NativeModule {
    let path = Parameter("path", .string, "a path")
    return NativeModule(
      "Files, clock, terminal.",
      [
        NativeFunction("clock", "Seconds of a clock that never goes back.", returns: "number") { _ in
          var time = timespec()
          clock_gettime(CLOCK_MONOTONIC, &time)
          return [.number(Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9)]
        },
        NativeFunction(
          "isatty", "Whether a descriptor is a terminal.", [Parameter("fd", .whole(0...Int(Int32.max)), "1 or 2")],
          returns: "boolean"
        ) {
          call in [.bool(isatty(Int32(truncatingIfNeeded: try call.int("fd"))) == 1)]
        },
        NativeFunction(
          "has_colours", "Whether the terminal has colours and NO_COLOR does not refuse them (no-color.org).",
          returns: "boolean"
        ) { _ in
          let terminal = getenv("TERM").map { String(cString: $0) } ?? ""
          let refuses = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
          return [.bool(terminal != "" && terminal != "dumb" && !refuses)]
        },
        NativeFunction("terminal_width", "Columns of the terminal; 80 when unknown.", returns: "integer") { _ in
          var size = winsize()
          let known = ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
          return [.integer(known ? Int(size.ws_col) : 80)]
        },
        NativeFunction(
          "interrupted", "Whether Ctrl-C came since the last call; from the first call on, it only asks here.",
          returns: "boolean"
        ) {
          _ in
          LuaState.setPolling(true)
          return [.bool(LuaState.takeInterrupt())]
        },
        NativeFunction(
          "exit", "Leaves the recipe with an exit code.",
          [Parameter("code", .whole(0...255), "what the program ends with")]
        ) {
          call in
          throw Self.leaving(code: try call.int("code"), call.state)
        },
        NativeFunction(
          "hub_folder",
          "Where models of the Hugging Face hub are kept: $HF_HUB_CACHE, else below $HF_HOME or ~/.cache.",
          returns: "string"
        ) { _ in [.string(HubCache.folder())] },
        NativeFunction("mkdir", "Makes a directory with its parents.", [path]) { call in
          try FileSystem.makeDirectory(try self.placeToSave(try call.string("path"), tells: false))
          return []
        },
        NativeFunction("list_dir", "Names in a directory; none when it does not exist.", [path], returns: "string[]") {
          call in
          let path = try call.string("path")
          let names = try [path, try self.placeToRead(path)].flatMap { path in
            FileSystem.isDirectory(path) ? try FileSystem.list(path) : []
          }
          return [.table(call.state.list(Set(names).sorted().map { .string($0) }))]
        },
        NativeFunction("exists", "Whether a file or directory exists.", [path], returns: "boolean") { call in
          [.bool(FileSystem.exists(try self.placeToRead(try call.string("path"))))]
        },
        NativeFunction(
          "remove_tree",
          "Deletes a file or directory with all it holds; under --smoke and --plan only what they wrote.", [path]
        ) { call in
          let path = try self.placeToRead(try call.string("path"))
          if try self.mayChange(path) { try FileSystem.remove(path) }
          return []
        },
        NativeFunction(
          "half_written",
          "What a temporary name in a directory stands for: the name of the file or directory, and whether it is an "
            + "old directory that was to be replaced; nil for any other name.",
          [Parameter("name", .string, "a name without its directory")],
          returns: "string|nil, boolean|nil", example: "assert(qlora.native.half_written 'notes.txt' == nil)"
        ) { call in
          guard let stage = StageName(try call.string("name")) else { return [.nil] }
          return [.string(stage.base), .bool(stage.isOld)]
        },
        NativeFunction(
          "write_file", "Writes a file whole or not at all.", [path, Parameter("text", .bytes, "contents, any bytes")]
        ) { call in
          try AtomicFile.write(try self.placeToSave(try call.string("path")), try call.bytes("text"))
          return []
        },
        NativeFunction(
          "checksum", "SHA-256 of a text, as hexadecimal digits.", [Parameter("text", .bytes, "any bytes")],
          returns: "string", example: "assert(qlora.native.checksum('abc'):sub(1, 8) == 'ba7816bf')"
        ) { call in [.string(try call.bytes("text").withUnsafeBytes { SHA256.hash($0) })] },
        NativeFunction(
          "read_records",
          "The records of a data file, and the line where each begins; record_endings lists the kinds.",
          [
            path,
            Parameter(
              "options",
              .options([
                Parameter("limit", .amount, optional: true, "most records"),
                Parameter(
                  "texts", .boolean, optional: true,
                  "return the JSON text of each record too, which keeps nulls and the order of keys"),
              ]), optional: true, "the options below"
            ),
          ],
          returns: "table[], integer[], string[]|nil",
          errors: "when there is no such file, or it is not what its ending says"
        ) { call in
          let path = try self.placeToRead(try call.string("path"))
          // The texts twice, in Swift and in Lua.
          try call.state.require(2 * (try MappedFile(path: path).byteCount))
          let records = try Records.read(path: path)
          let limit = call.options("options").int("limit").map { max(0, $0) } ?? records.count
          let taken = records.prefix(limit)
          let lists: [LuaValue] = [
            .table(call.state.list(taken.map { call.state.value($0.value) })),
            .table(call.state.list(taken.map { .integer($0.line) })),
          ]
          guard call.options("options").bool("texts") ?? false else { return lists }
          return lists + [.table(call.state.list(taken.map { .string($0.value.text(.compact)) }))]
        },
        NativeFunction(
          "record_endings", "What the names of data files end in.", returns: "string[]",
          example: "assert(qlora.native.record_endings()[1] == 'json')"
        ) { call in [.table(call.state.list(Records.endings.map { .string($0) }))] },
        NativeFunction(
          "regex_full_match", "Whether a Python-style regular expression matches the whole text.",
          [Parameter("pattern", .string, "regular expression"), Parameter("text", .string, "text to match")],
          returns: "boolean",
          example: "assert(qlora.native.regex_full_match('.*proj', 'q_proj'))"
        ) { call in [.bool(try fullMatch(pattern: try call.string("pattern"), text: try call.string("text")))] },
        NativeFunction(
          "byte_text", "A number of bytes in binary units with three significant digits.",
          [Parameter("count", .element, "number of bytes")], returns: "string",
          example: "assert(qlora.native.byte_text(3 << 20) == '3.00 MiB')"
        ) { call in [.string(byteText(try call.double("count")))] },
        NativeFunction(
          "nearest_names", "The names that may be meant by a misspelt word, nearest first; none when none is near.",
          [
            Parameter("word", .bytes, "the misspelt word"), Parameter("names", .table, "list of the right ones"),
            Parameter("count", .count, default: "1", "most names"),
          ], returns: "string[]",
          example: #"assert(qlora.native.nearest_names("bacth", { "batch", "steps" })[1] == "batch")"#
        ) { call in
          let word = String(decoding: try call.bytes("word"), as: UTF8.self)
          let names = try call.table("names").elements.compactMap(\.asString)
          let near = nearestNames(to: word, among: names, count: call["count"].asInt ?? 1)
          return [.table(call.state.list(near.map { .string($0) }))]
        },
        NativeFunction(
          "extend", "Adds Lua functions to the methods of a class.",
          [Parameter("class", .string, "name of a bound class"), Parameter("functions", .table, "functions by name")]
        ) { call in
          let name = try call.string("class")
          // Lua keeps metatables and files of its own under such names.
          guard self.classes.contains(where: { $0.name == name }) else {
            throw call.invalid("there is no class '\(name)'")
          }
          call.state.extend(name, try call.table("functions"))
          return []
        },
        NativeFunction(
          "resource", "Path of a file that ships with the program.",
          [Parameter("name", .string, "path inside the package, such as models/tiny")],
          returns: "string"
        ) {
          call in [.string(self.resourceRoot + "/" + (try call.string("name")))]
        },
        NativeFunction(
          "spill_directory",
          "Where temporary files of paged and offloaded memory go that name no directory; sets it first when given.",
          [Parameter("path", .string, optional: true, "a directory")], returns: "string"
        ) { call in
          if let path = call["path"].asString { self.spillDirectory = path }
          return [.string(self.spillDirectory)]
        },
      ])
  }

  /// What ends a recipe with an exit code and without a message.
  static func leaving(code: Int, _ state: LuaState) -> LuaError {
    let value = state.newTable()
    value["exit_code"] = .integer(code)
    value["silent"] = .bool(true)
    return LuaError(message: "exit", value: .table(value))
  }

  func memoryTable(_ state: LuaState) -> LuaValue {
    let table = state.newTable()
    table["live"] = .integer(backend.memory.total)
    table["peak"] = .integer(backend.memory.peak)
    table["held"] = .integer(backend.residentByteCount)
    table["rss"] = .integer(ProcessMemory.read("VmRSS"))
    table["peak_rss"] = .integer(ProcessMemory.read("VmHWM"))
    table["limit"] = backend.memory.limit.map { .integer($0) } ?? .nil
    table["lua"] = .integer(state.byteCount)
    table["program"] = .integer(program.byteCount(backend: backend.residentByteCount))
    for category in MemoryCategory.allCases { table[category.name] = .integer(backend.memory.live(category)) }
    return .table(table)
  }
}
