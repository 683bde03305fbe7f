import Foundation
import Tensors
import Testing

@testable import Formats

@Suite struct GGUFWriterTests {
  private let metadata: [(String, GGUFValue)] = [
    ("general.architecture", .string("llama")), ("a.count", .unsigned(7)), ("a.large", .unsigned(1 << 40)),
    ("a.types", .array([.signed(1), .signed(-3)])), ("a.epsilon", .float32(1e-5)), ("a.flag", .bool(true)),
    ("a.texts", .array([.string("ä"), .string("")])), ("a.none", .array([])), ("a.double", .float64(0.1)),
  ]

  private func item(_ name: String, _ shape: [Int], _ type: GGMLType, _ bytes: [UInt8]) -> GGUFWriter.Item {
    GGUFWriter.Item(name: name, shape: shape, type: type) { sink in
      for byte in bytes { try withUnsafeBytes(of: byte) { try sink($0) } }
    }
  }

  @Test func whatIsWrittenIsRead() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/m.gguf"
      let (blocks, floats) = ((0..<68).map { UInt8($0) }, (0..<12).map { UInt8($0 * 3) })
      var seen: [String] = []
      try GGUFWriter.write(
        path: path, metadata, [item("m.weight", [2, 32], .q8_0, blocks), item("v.weight", [3], .f32, floats)],
        begun: {
          seen.append($0)
          let begun = try GGUFFile(path: $0)
          #expect(begun.tensors.count == 2 && begun.metadata.count == metadata.count)
        }, written: { seen.append($0) })
      let file = try GGUFFile(path: path)
      #expect(file.version == 3 && file.metadata == Dictionary(uniqueKeysWithValues: metadata))
      #expect(file.tensors.map(\.name) == ["m.weight", "v.weight"] && file.tensors.map(\.shape) == [[2, 32], [3]])
      let stored = try ["m.weight", "v.weight"].map { Array(try file.bytes(of: $0)) }
      #expect(stored == [blocks, floats])
      #expect(seen.count == 2 && seen[0] == seen[1] && seen[0] != path)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(names == ["m.gguf"])
    }
  }

  @Test func anOlderFileStaysUntilTheNewOneIsWhole() throws {
    struct Stop: Error {}
    try Fixture.withFolder { folder in
      let path = folder + "/m.gguf"
      try Fixture.write(path, [1])
      #expect(throws: Stop.self) {
        try GGUFWriter.write(
          path: path, metadata, [item("v", [1], .f32, [0, 0, 0, 0])], written: { _ in throw Stop() })
      }
      #expect(throws: FormatError.self) { try GGUFWriter.write(path: path, [], [item("v", [1], .f32, [0, 0])]) }
      #expect(throws: FormatError.self) { try GGUFWriter.write(path: path, [], [item("v", [2, 33], .q8_0, [])]) }
      let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(names == ["m.gguf"])
      #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) == [1])
    }
  }
}
