import Foundation
import Testing

/// The hub of Tests/Fixtures/hub/server.py, for one test.
final class HubServer {
  let folder: URL
  private(set) var endpoint = ""
  private let process = Process()
  private let input = Pipe()

  /// python3 runs the server; without it these tests say that they are skipped.
  static let python =
    ["/usr/bin", "/usr/local/bin"].map { $0 + "/python3" }
    .first { FileManager.default.isExecutableFile(atPath: $0) } ?? ""

  /// `files` has contents by `models/org/name/file`.
  /// - Throws: when the server does not start.
  init(_ files: [String: Data]) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("hub-\(UUID().uuidString)")
    for (name, content) in files {
      let url = folder.appendingPathComponent("repositories/" + name)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try content.write(to: url)
    }
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/hub/server.py")
    process.executableURL = URL(fileURLWithPath: Self.python)
    process.arguments = [script.path, folder.path + "/repositories", folder.path + "/log"]
    let output = Pipe()
    (process.standardInput, process.standardOutput) = (input, output)
    try process.run()
    let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    endpoint =
      "http://127.0.0.1:" + (try #require(Int(line.trimmingCharacters(in: .whitespacesAndNewlines)))).description
  }

  deinit {
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: folder)
  }

  var cache: String { folder.path + "/cache" }

  func environment(_ token: String?) -> (String) -> String? {
    let values: [String: String?] = [
      "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": cache, "HF_HOME": folder.path, "HF_TOKEN": token,
    ]
    return { values[$0] ?? nil }
  }

  /// The requests, one a line.
  var log: [String] {
    ((try? String(contentsOfFile: folder.path + "/log", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }
}
