import Foundation
import Testing

/// A confined program has one gate: what opens, makes, renames, removes or links by path asks `FileGate` in the same
/// function, or stands in a short list.
@Suite struct FileGateTests {
  /// Calls that need not ask, and why.
  private static let exempt: [String: Set<String>] = [
    // Asked when the object was made.
    "Formats/AtomicFile.swift": ["rename", "unlink"],
    "Formats/AtomicDirectory.swift": ["rename", "chmod", "cp_exchange"],
    // Brings to the disk what was written through the gate.
    "Formats/FileSystem.swift": ["open"],
    // Of the system about this process: paths that no program chooses.
    "Tensors/ProcessMemory.swift": ["fopen"], "Tensors/AddressSpace.swift": ["fopen"],
    "Tensors/StageName.swift": ["fopen"],
    "CPUBackend/Processor.swift": ["fopen"],
    // The library of what started the program, which its environment names.
    "Ranks/MPILibrary.swift": ["dlopen"],
    "qlora-run/MappingFaults.swift": ["open"],
    // The command line itself, before a program runs; its prompt has no sandbox.
    "qlora-run/Resources.swift": ["fopen", "opendir", "open"],
    "qlora-run/LineEditor.swift": ["mkdir", "read_history", "write_history"],
    // A library of the system, for fetching, which a confined program does not.
    "Hub/CurlLibrary.swift": ["dlopen"],
    // The folder of a plan, in the one for temporary files, before a sandbox closes.
    "LuaBindings/Scratch.swift": ["mkdtemp"],
    // A sandbox has another searcher.
    "CLuaTrampoline/libraries.c": ["luaL_loadfilex"],
    // The call itself, for AtomicDirectory.
    "CPlatform/exchange.c": ["cp_exchange", "renameat2"],
    // It asks for the use of registers, and names no file.
    "CPlatform/tiles.c": ["syscall"],
  ]

  private static let names = [
    "open", "openat", "open64", "creat", "fopen", "fopen64", "freopen", "opendir", "scandir", "nftw", "glob",
    "mkstemp", "mkstemps", "mkostemp", "mkdtemp", "tmpfile", "tmpnam", "tempnam", "shm_open", "rename", "renameat",
    "renameat2", "cp_exchange", "unlink", "unlinkat", "remove", "rmdir", "mkdir", "mkdirat", "mkfifo", "mknod",
    "symlink", "symlinkat", "link", "linkat", "truncate", "chmod", "chown", "utimes", "utimensat", "chdir", "chroot",
    "mount", "popen", "system", "execv", "execve", "execvp", "execl", "execlp", "posix_spawn", "posix_spawnp", "dlopen",
    "syscall", "luaL_loadfile", "luaL_loadfilex", "luaL_dofile", "sqlite3_open", "sqlite3_open16", "sqlite3_open_v2",
    "sqlite3_load_extension", "read_history", "write_history", "append_history",
  ]
  private static let calls = [
    #"(?<![\w.])(?:Glibc\.)?("# + names.joined(separator: "|") + #")\("#,
    #"\b(FileManager|FileHandle|InputStream|OutputStream|Process\(\))"#,
    #"\b((?:Data|String|NSData|NSString|NSArray|NSDictionary)\(contentsOf)"#, #"\.(write\(to(?:File)?):"#,
  ]
  private static let gate = #"FileGate\.(check|allows)\(|\bis_allowed\(|\ballows\(path,"#
  private static let function =
    #"^ *(?:(?:public|package|private|fileprivate|static|override|mutating|@\w+) )*(?:func|init|deinit)\b|^\w.*\) \{"#

  /// Calls without a gate in their function before them: the line and the name.
  private static func ungated(_ text: String) throws -> [(line: Int, name: String)] {
    // Without comments, texts and the declarations of cases.
    let lines = text.components(separatedBy: "\n").map { line in
      line.replacingOccurrences(of: #""(?:[^"\\]|\\.)*"|^ *case \w+\("#, with: "", options: .regularExpression)
        .components(separatedBy: "//")[0]
    }
    func matches(_ line: String, _ pattern: String) -> Bool {
      line.range(of: pattern, options: .regularExpression) != nil
    }
    let expressions = try calls.map { try NSRegularExpression(pattern: $0) }
    var found: [(Int, String)] = []
    for (number, line) in lines.enumerated() {
      let whole = NSRange(line.startIndex..., in: line)
      for match in expressions.flatMap({ $0.matches(in: line, range: whole) }) {
        let name = String(line[Range(match.range(at: 1), in: line)!])
        // The file's own function of that name.
        if text.contains("func \(name)("), !line[Range(match.range, in: line)!].hasPrefix("Glibc.") { continue }
        let start = (0...number).reversed().first { matches(lines[$0], function) } ?? 0
        let before = lines[start..<number].joined(separator: "\n") + line[..<Range(match.range, in: line)!.lowerBound]
        if !matches(before, gate) { found.append((number + 1, name)) }
      }
    }
    return found
  }

  @Test func pathsPassTheGate() throws {
    let sources = root.appendingPathComponent("Sources").path
    var unused = Self.exempt
    var gated = 0
    for file in try files("swift", under: "Sources") + files("c", under: "Sources") {
      let name = String(file.path.dropFirst(sources.count + 1))
      let text = try String(contentsOf: file, encoding: .utf8)
      if text.range(of: Self.gate, options: .regularExpression) != nil { gated += 1 }
      for call in try Self.ungated(text) {
        unused[name]?.remove(call.name)
        #expect(
          Self.exempt[name]?.contains(call.name) == true,
          "\(name):\(call.line): \(call.name) is called without FileGate before it in its function")
      }
    }
    #expect(unused.allSatisfy { $0.value.isEmpty }, "no such calls: \(unused.filter { !$0.value.isEmpty })")
    #expect(gated >= 10, "only \(gated) files ask FileGate")
  }

  /// The finder finds what it is for.
  @Test(arguments: [
    ("func a() {\n  let f = open(p, 0)\n}", 1), ("func a() {\n  try FileGate.check(p, .read)\n  open(p, 0)\n}", 0),
    ("func a() {\n  try FileGate.check(p, .read)\n}\nfunc b() {\n  _ = Glibc.rename(p, q)\n}", 1),
    ("func a() {\n  unlink(p)\n  try FileGate.check(p, .entry)\n}", 1), ("func a() { x.open(p); file.remove(p) }", 0),
    ("// open(p)\nlet a = \"open(p)\"", 0), ("let a = FileManager.default", 1), ("try Data(contentsOf: url)", 1),
    ("try x.write(to: url)", 1), ("static int f(lua_State *L) {\n  return fopen(p, \"r\") != NULL;\n}", 1),
    ("static int f(lua_State *L) {\n  if (!is_allowed(L, p, 0)) return 0;\n  return fopen(p, \"r\") != NULL;\n}", 0),
    ("func remove(_ p: P) {\n  remove(p)\n}", 0), ("func remove(_ p: P) {\n  Glibc.remove(p)\n}", 1),
    ("case system(path: String)", 0), ("case 1: open(p, 0)", 1),
    ("  case system(path: String, operation: String, code: Int32)", 0), ("sqlite3_open_v2(p, &h, 0, nil)", 1),
  ]) func aCallWithoutAGateIsFound(text: String, count: Int) throws {
    #expect(try Self.ungated(text).count == count, "\(text)")
  }
}
