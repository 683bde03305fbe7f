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
      let text = read(root + "/recipes/" + name).map { String(decoding: $0, as: UTF8.self) } ?? ""
      let line = text.split(separator: "\n").first { $0.hasPrefix("--") } ?? ""
      return (String(name.dropLast(4)), String(line.drop { $0 == "-" || $0 == " " }))
    }
  }

  /// The name of a recipe as `recipes` gives it: without its ending.
  static func recipeName(_ text: String) -> String { text.hasSuffix(".lua") ? String(text.dropLast(4)) : text }

  /// The file that a recipe on the command line means: the file of that name, else the recipe that ships under it.
  static func script(_ name: String, root: String) -> String {
    let shipped = "\(root)/recipes/\(recipeName(name)).lua"
    return name == "-" || exists(name) || !exists(shipped) ? name : shipped
  }

  /// Copies a recipe for editing.
  /// - Throws: `UsageError` when it does not exist or the target does.
  static func copy(_ name: String, to destination: String?, root: String) throws -> String {
    let base = recipeName(name)
    guard let bytes = read("\(root)/recipes/\(base).lua") else {
      let near = nearestName(to: base, among: recipes(root).map(\.name))
      throw UsageError(
        description: "no recipe is called '\(base)'" + (near.map { " (did you mean '\($0)'?)" } ?? "; see --list"))
    }
    let target = destination ?? "\(base.split(separator: "/").last ?? "recipe").lua"
    let descriptor = open(target, O_WRONLY | O_CREAT | O_EXCL, 0o644)
    guard descriptor >= 0 else {
      throw UsageError(description: "cannot write \(target): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    guard write(descriptor, bytes, bytes.count) == bytes.count else {
      throw UsageError(description: "cannot write \(target): \(String(cString: strerror(errno)))")
    }
    return target
  }
}
