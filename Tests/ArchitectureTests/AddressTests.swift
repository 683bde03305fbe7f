import Foundation
import Testing

/// Memory has one door: only CPUBackend knows where a tensor or a storage lies.
@Suite struct AddressTests {
  /// What would take an address past the door. The first two are what CPUBackend calls them.
  private static let forbidden = [
    #"\.(address|floatAddress|idAddress|byteAddress)\b"#, #"\b(storage|Storage|\$0\.storage)\.base\b"#,
    #"\bHostStorage\b"#, #"@testable import"#,
  ]

  /// Lines of Swift files under a folder that match a pattern, comments left out, and how many files were read.
  static func findings(under folder: URL, _ patterns: [String]) throws -> (lines: [String], fileCount: Int) {
    let expressions = try patterns.map { try NSRegularExpression(pattern: $0) }
    var (lines, fileCount) = ([String](), 0)
    let walk = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
    while let file = walk?.nextObject() as? URL {
      guard file.pathExtension == "swift" else { continue }
      fileCount += 1
      for (number, line) in try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n").enumerated() {
        let code = line.components(separatedBy: "//")[0]
        let range = NSRange(code.startIndex..., in: code)
        if expressions.contains(where: { $0.firstMatch(in: code, range: range) != nil }) {
          lines.append("\(file.lastPathComponent):\(number + 1): \(line)")
        }
      }
    }
    return (lines, fileCount)
  }

  @Test func noFileOutsideCPUBackendUsesAnAddress() throws {
    let sources = root.appendingPathComponent("Sources")
    let folders = try FileManager.default.contentsOfDirectory(atPath: sources.path).filter {
      $0 != "CPUBackend" && !$0.hasPrefix("Kernels") && !$0.hasPrefix(".")
    }
    var fileCount = 0
    for folder in folders {
      let found = try Self.findings(under: sources.appendingPathComponent(folder), Self.forbidden)
      #expect(found.lines.isEmpty, "\(folder): \(found.lines.joined(separator: "\n"))")
      fileCount += found.fileCount
    }
    #expect(fileCount > 100, "only \(fileCount) files were read")
  }

  /// The compiler then refuses every other module.
  @Test func cpuBackendPublishesNoAddress() throws {
    let folder = root.appendingPathComponent("Sources/CPUBackend")
    let published = #"\b(public|package|open)\b.*\b(address|floatAddress|idAddress|byteAddress|base|HostStorage)\b"#
    let found = try Self.findings(under: folder, [published])
    #expect(found.lines.isEmpty, "\(found.lines.joined(separator: "\n"))")
    let own = try Self.findings(under: folder, [#"\bvar address: UnsafeMutableRawPointer\b"#, #"let base: Unsafe"#])
    #expect(own.lines.count >= 2, "the addresses are not where this test looks for them")
  }

  /// Locks of the system have an address that stays only where `Monitor` allocates them.
  @Test func noLockIsAStoredProperty() throws {
    let found = try Self.findings(
      under: root.appendingPathComponent("Sources"), [#"\bpthread_(mutex|cond|rwlock|spinlock)_t\b"#])
    let elsewhere = found.lines.filter { !$0.hasPrefix("Monitor.swift:") }
    #expect(found.lines.count >= 2 && elsewhere.isEmpty, "\(found.lines.joined(separator: "\n"))")
  }

  /// The patterns find what they are for.
  @Test func aBrokenRuleIsFound() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("addresses-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let lines = ["let a = tensor.address", "let b = tensor.storage.base", "// tensor.address", "let c = x.addresses"]
    try lines.joined(separator: "\n").write(
      to: folder.appendingPathComponent("Broken.swift"), atomically: true, encoding: .utf8)
    #expect(try Self.findings(under: folder, Self.forbidden).lines.count == 2)
  }
}
