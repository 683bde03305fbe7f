import Glibc
import LuaBindings

/// Where stdlib, recipes and models lie.
enum Resources {
  /// QLORA_HOME; else `../share/qlora` beside the executable's directory; else the nearest folder above the executable
  /// that holds `stdlib/qlora/init.lua` (the package, when run from its build folder).
  static func root() -> String {
    if let raw = getenv("QLORA_HOME") { return String(cString: raw) }
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    guard count > 0 else { return "." }
    var folder = parent(String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self))
    let installed = parent(folder) + "/share/qlora"
    if exists(installed + "/stdlib/qlora/init.lua") { return installed }
    while folder != "/" {
      if exists(folder + "/stdlib/qlora/init.lua") { return folder }
      folder = parent(folder)
    }
    return "."
  }

  static func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return path.contains("/") ? "/" : "." }
    return String(path[..<slash])
  }

  /// The run that a path names, itself or by one of its checkpoints.
  static func run(_ path: String) -> String {
    path.split(separator: "/").last?.hasPrefix(checkpointPrefix) == true ? parent(path) : path
  }

  static func exists(_ path: String) -> Bool { access(path, R_OK) == 0 }

  static func read(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = fread(&chunk, 1, chunk.count, file)
      if count == 0 { return ferror(file) == 0 ? bytes : nil }
      bytes += chunk[..<count]
    }
  }

  /// Drops what this process prints from now on; errors are still told.
  static func silenceOutput() {
    let nowhere = open("/dev/null", O_WRONLY)
    guard nowhere >= 0 else { return }
    dup2(nowhere, 1)
    close(nowhere)
  }

  /// Names in a folder that are not hidden, sorted.
  private static func names(in path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  /// Names of the recipes that ship, with the first line of each; those in a folder after the others, as `folder/name`.
  static func recipes(_ root: String) -> [(name: String, line: String)] {
    let top = names(in: root + "/recipes")
    let inside = top.filter { !$0.contains(".") }.flatMap { folder in
      names(in: "\(root)/recipes/\(folder)").map { "\(folder)/\($0)" }
    }
    return (top + inside).filter { $0.hasSuffix(".lua") }.map { name in
      (String(name.dropLast(4)), firstComment(of: "\(root)/recipes/\(name)"))
    }
  }

  private static func firstComment(of path: String) -> String {
    let text = read(path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("--") } ?? ""
    return String(line.drop { $0 == "-" || $0 == " " })
  }

  /// The name of a recipe as `recipes` gives it: without its ending.
  static func recipeName(_ text: String) -> String { text.hasSuffix(".lua") ? String(text.dropLast(4)) : text }

  /// The file that a recipe on the command line means: the file of that name, else the recipe that ships under it.
  static func script(_ name: String, root: String) -> String {
    let shipped = "\(root)/recipes/\(recipeName(name)).lua"
    return name == "-" || exists(name) || !exists(shipped) ? name : shipped
  }

  /// Whether a word names a command of the library.
  static func isCommand(_ name: String, root: String) -> Bool {
    !name.isEmpty && name.allSatisfy { $0.isLetter && $0.isASCII }
      && exists("\(root)/stdlib/qlora/commands/\(name).lua")
  }

  /// The commands that ship, each with the first line of its file.
  static func commands(_ root: String) -> [(name: String, line: String)] {
    names(in: root + "/stdlib/qlora/commands").filter { $0.hasSuffix(".lua") }.map { name in
      (String(name.dropLast(4)), firstComment(of: "\(root)/stdlib/qlora/commands/\(name)"))
    }
  }
}
