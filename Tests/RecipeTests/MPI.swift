import Foundation

/// What starts several ranks in tests.
enum MPI {
  /// The launcher that QLORA_LAUNCHER names, else the one that `make test` installs. Without one these tests are
  /// skipped.
  static let launcher =
    ([ProcessInfo.processInfo.environment["QLORA_LAUNCHER"]].compactMap { $0 } + [
      "/usr/bin/mpirun", "/usr/local/bin/mpirun",
    ]).first { FileManager.default.isExecutableFile(atPath: $0) }

  /// What lets as many processes as one likes run anywhere, as root too.
  static let environment = [
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
  ]

  /// Runs `r.lua` of a folder with so many ranks.
  static func run(_ ranks: Int, _ arguments: [String], in directory: URL) throws -> Program.Outcome {
    let arguments = ["--quiet"] + arguments + ["r.lua"]
    if ranks == 1 { return try Program.run(arguments, in: directory) }
    return try Program.run(
      ["-n", "\(ranks)", Program.executable.path] + arguments, in: directory, environment: environment,
      program: launcher)
  }

  /// The ranks that run in a folder.
  static func processes(in directory: URL) throws -> [pid_t] {
    let folder = directory.resolvingSymlinksInPath().path
    let program = Program.executable.resolvingSymlinksInPath().path
    return try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
      func link(_ name: String) -> String? {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/\(name)")
      }
      return link("cwd") == folder && link("exe") == program
    }
  }
}
