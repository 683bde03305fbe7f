import Formats
@preconcurrency import Glibc
import Hub
import LuaBindings

/// `qlora-run fetch NAME [FILE]`: brings a model or a data set into the cache and prints where it lies.
enum FetchCommand {
  static let usage = """
    usage: qlora-run fetch [--revision REVISION] [--quiet] NAME [FILE]

      NAME   ORGANISATION/NAME of the hub, a model; datasets/ORGANISATION/NAME, a data set
      FILE   one file of it, such as a .gguf or a .jsonl file

    Prints where it lies. Recipes load it by its name. HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE
    mean what they mean to all programs of the hub.
    """

  /// - Returns: the exit code.
  static func run(_ arguments: [String]) -> Int32 {
    var (words, revision, isQuiet): ([String], String?, Bool) = ([], nil, false)
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      switch argument {
      case "--help", "-h":
        print(usage)
        return ExitCode.success
      case "--quiet": isQuiet = true
      case "--revision":
        revision = rest.popFirst()
        if revision == nil { return fail("--revision needs a branch, a tag or a commit") }
      case _ where argument.hasPrefix("--revision="): revision = String(argument.dropFirst("--revision=".count))
      case _ where argument.hasPrefix("-"): return fail("unknown flag '\(argument)'")
      default: words.append(argument)
      }
    }
    guard words.count == 1 || words.count == 2 else { return fail("fetch needs the name of a model or a data set") }
    do {
      var name = try HubName(words[0])
      if let revision { name.revision = revision }
      if words.count == 2 { name.file = words[1] }
      try name.check()
      let report: (FetchProgress) -> Void = isQuiet ? { _ in } : { FetchLine.show($0) }
      print(try Hub(HubSettings(), report: report).fetch(name))
      return ExitCode.success
    } catch {
      fputs("\(isatty(2) == 1 ? "\r\u{1B}[K" : "")qlora-run: \(error)\n", stderr)
      return ExitCode.recipeError
    }
  }

  private static func fail(_ text: String) -> Int32 {
    fputs("qlora-run: \(text)\n\(usage)\n", stderr)
    return ExitCode.usage
  }
}
