import Formats
import Glibc
import LuaRuntime
import Synchronization

/// The folder where a run writes that has no results: under `--smoke` it is `smoke` and stays to be looked at, under
/// `--plan` a temporary one that goes with the program. What is written lies in it under its own path.
final class Scratch {
  /// The folder, as it is told to the user.
  let root: String
  /// Whether it stays.
  let isKept: Bool
  /// Where the program was started, and the folder, both absolute.
  private let here: String
  private let whole: String

  /// - Throws: `FormatError.system` where no temporary folder can be made.
  init(kept: Bool) throws {
    isKept = kept
    here =
      getcwd(nil, 0).map { path in
        defer { free(path) }
        return String(cString: path)
      } ?? "/"
    root = kept ? "smoke" : try Self.temporaryFolder()
    whole = Self.normal(root, from: here)
  }

  /// The place in the folder that stands for a path; a path in it, or of a device, as it is.
  func place(of path: String) -> String {
    let target = Self.normal(path, from: here)
    if contains(target) || ["/dev", "/proc"].contains(where: { Self.holds($0, target) }) { return path }
    let inside = Self.holds(here, target) ? target.dropFirst(here == "/" ? 1 : here.count + 1) : target.dropFirst()
    return inside.isEmpty ? root : root + "/" + inside
  }

  /// Whether a path leads into the folder.
  func holds(_ path: String) -> Bool { contains(Self.normal(path, from: here)) }

  private func contains(_ target: String) -> Bool { Self.holds(whole, target) }

  private static func holds(_ folder: String, _ path: String) -> Bool {
    path == folder || path.hasPrefix(folder == "/" ? "/" : folder + "/")
  }

  /// An absolute path without `.`, `..` and doubled slashes.
  private static func normal(_ path: String, from here: String) -> String {
    var names: [Substring] = []
    for name in (path.hasPrefix("/") ? path : here + "/" + path).split(separator: "/") where name != "." {
      if name == ".." { _ = names.popLast() } else { names.append(name) }
    }
    return "/" + names.joined(separator: "/")
  }

  /// Folders to remove when the program ends, in whatever way it does.
  private static let leaving = Mutex<[String]>([])

  private static func temporaryFolder() throws -> String {
    var name = Array(((getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp") + "/qlora-plan-XXXXXX").utf8CString)
    guard mkdtemp(&name) != nil else {
      throw FormatError.system(
        path: String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self),
        operation: "create folder", code: errno)
    }
    let path = String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    let isFirst = leaving.withLock { paths in
      defer { paths.append(path) }
      return paths.isEmpty
    }
    if isFirst { atexit { Scratch.leaving.withLock { for path in $0 { try? FileSystem.remove(path) } } } }
    return path
  }
}

extension Engine {
  /// The folder of a run with `--smoke` or `--plan`; nil where results are results. Made with the first use.
  func scratch() throws -> Scratch? {
    guard options.smoke || options.plan else { return nil }
    if let made = madeScratch { return made }
    let new = try Scratch(kept: !options.plan)
    madeScratch = new
    return new
  }

  /// Where a result is written: under `--smoke` and `--plan` in their folder, which is told.
  func placeToSave(_ path: String, tells: Bool = true) throws -> String {
    guard let scratch = try scratch(), !path.isEmpty else { return path }
    let place = scratch.place(of: path)
    guard place != path else { return path }
    // A file goes where its folder is; where that is missing, the run says so as it would without --smoke.
    if FileSystem.isDirectory(FileSystem.directoryName(path)) {
      try FileSystem.makeDirectory(FileSystem.directoryName(place))
    }
    if tells {
      Warnings.show(
        scratch.isKept
          ? "--smoke: saved in \(place), so that \(path) stays as it is" : "--plan: \(path) is not written")
    }
    return place
  }

  /// Where something is read: what this kind of run wrote itself goes before.
  func placeToRead(_ path: String) throws -> String {
    guard options.smoke || options.plan, !path.isEmpty, options.smoke && !options.plan || madeScratch != nil,
      let place = try scratch()?.place(of: path), FileSystem.exists(place)
    else { return path }
    return place
  }

  /// Whether what lies at a path may be changed: not under `--smoke` and `--plan`, but for their folder.
  func mayChange(_ path: String) throws -> Bool { try scratch()?.holds(path) ?? true }

  /// Paths of runs without results, for files that Lua writes.
  var scratchModule: NativeModule {
    let path = Parameter("path", .string, "a path")
    return NativeModule(
      "Files of runs with --smoke and --plan.",
      [
        NativeFunction(
          "place_to_save",
          "Where a recipe may write what is to lie at a path: the path, or under --smoke the place in "
            + "the folder smoke that stands for it, under --plan one in a folder that goes with the program.",
          [path, Parameter("quiet", .boolean, default: "false", "do not tell the user")], returns: "string",
          example: #"assert(qlora.native.place_to_save "out/notes.txt" == "out/notes.txt")"#
        ) { call in
          [.string(try self.placeToSave(try call.string("path"), tells: call["quiet"].asBool != true))]
        },
        NativeFunction(
          "place_to_read",
          "Where to read what lies at a path: under --smoke and --plan what this run wrote goes before.",
          [path], returns: "string", example: #"assert(qlora.native.place_to_read "note.txt" == "note.txt")"#
        ) { call in [.string(try self.placeToRead(try call.string("path")))] },
        NativeFunction(
          "may_change", "Whether what lies at a path may be changed: under --smoke and --plan only what they wrote.",
          [path], returns: "boolean", example: #"assert(qlora.native.may_change "note.txt")"#
        ) { call in [.bool(try self.mayChange(try call.string("path")))] },
      ])
  }
}
