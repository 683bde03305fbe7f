import Foundation
import Testing

/// The built program, run as a user would.
enum Program {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static let executable: URL = {
    let builds = ["release", "debug"].map { root.appendingPathComponent(".build/\($0)/qlora-run") }
    return builds.first { FileManager.default.isExecutableFile(atPath: $0.path) } ?? builds[0]
  }()

  /// The text of a file of the package; empty when it is not there.
  static func text(_ path: String) -> String {
    (try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)) ?? ""
  }

  struct Outcome {
    let code: Int32
    let output: String
    let errors: String
  }

  static func temporaryDirectory() throws -> URL {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    return url
  }

  static func process(
    _ arguments: [String], in directory: URL, environment: [String: String] = [:], program: String? = nil
  ) -> Process {
    let process = Process()
    process.executableURL = program.map { URL(fileURLWithPath: $0) } ?? executable
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.arguments = arguments
    process.currentDirectoryURL = directory
    process.standardInput = FileHandle.nullDevice
    return process
  }

  /// Runs the built program, or another, to the end, but at most `seconds`; `environment` is on top of this process's.
  static func run(
    _ arguments: [String], in directory: URL? = nil, input: String? = nil, seconds: Double = 120,
    environment: [String: String] = [:], program: String? = nil
  ) throws -> Outcome {
    let directory = try directory ?? temporaryDirectory()
    let process = process(arguments, in: directory, environment: environment, program: program)
    // Files instead of pipes: a full pipe would block the program.
    let scratch = try temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: scratch) }
    let (out, err) = (scratch.appendingPathComponent("stdout.txt"), scratch.appendingPathComponent("stderr.txt"))
    for url in [out, err] { _ = FileManager.default.createFile(atPath: url.path, contents: nil) }
    process.standardOutput = try FileHandle(forWritingTo: out)
    process.standardError = try FileHandle(forWritingTo: err)
    if let input {
      let url = scratch.appendingPathComponent("stdin.txt")
      try input.write(to: url, atomically: true, encoding: .utf8)
      process.standardInput = try FileHandle(forReadingFrom: url)
    }
    try process.run()
    let deadline = Date().addingTimeInterval(seconds)
    while process.isRunning, Date() < deadline { usleep(10_000) }
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
    return Outcome(
      code: process.terminationStatus, output: try String(contentsOf: out, encoding: .utf8),
      errors: try String(contentsOf: err, encoding: .utf8))
  }
}
