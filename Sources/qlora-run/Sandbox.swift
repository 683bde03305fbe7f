import Glibc
import LuaBindings

/// What the flags say of a sandbox.
struct SandboxFlags {
  var reading: [String] = []
  var writing: [String] = []
  var instructions = 100_000_000_000
  var luaMemory = 4_000_000_000
  /// The first flag that means nothing without `--sandbox`.
  var first: String?
}

extension Invocation {
  /// - Throws: `UsageError` where flags of a sandbox stand without one, or a sandbox has no recipe or more than it.
  func checkSandbox() throws {
    guard isSandboxed else {
      if let first = sandbox.first { throw UsageError(description: "\(first) means something with --sandbox only") }
      return
    }
    guard let script, script != "-" else { throw UsageError(description: "--sandbox needs a recipe: a file") }
    if isInteractive || !actions.isEmpty {
      throw UsageError(description: "--sandbox runs a recipe alone, without -e, -l and -i")
    }
  }

  /// The bounds of the recipe: it reads its folder, and writes `runs` in the current folder and what it resumes.
  var confinement: Confinement {
    let resumed = options.resume.flatMap { $0.isEmpty ? nil : Resources.run($0) }
    // A link of that name, which a stranger's folder may bring along, would open what it leads to.
    var info = stat()
    let isLink = lstat("runs", &info) == 0 && info.st_mode & S_IFMT == S_IFLNK
    let runs = isLink ? [] : ["runs"]
    return Confinement(
      reading: (script.map { [Resources.parent($0)] } ?? []) + sandbox.reading,
      writing: runs + (resumed.map { [$0] } ?? []) + sandbox.writing,
      instructions: sandbox.instructions, luaMemory: sandbox.luaMemory)
  }
}
