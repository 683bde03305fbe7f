import Foundation
import Testing

@testable import Formats

@Suite struct SafetensorsTests {
  @Test func fixtureReads() throws {
    let file = try SafetensorsFile(path: Fixture.path("model.safetensors"))
    #expect(file.metadata == ["format": "pt"])
    let entry = try #require(file.entry("model.embed_tokens.weight"))
    #expect(entry.type == .bf16 && entry.shape == [128, 64] && entry.byteCount == 128 * 64 * 2)
    #expect(try file.bytes(of: entry.name).count == entry.byteCount)
    #expect(throws: FormatError.missingTensor(path: file.path, tensor: "x")) { try file.bytes(of: "x") }
  }

  @Test func rewritingGivesTheSameBytes() throws {
    let source = try SafetensorsFile(path: Fixture.path("model.safetensors"))
    try Fixture.withFolder { folder in
      let path = folder + "/copy.safetensors"
      try SafetensorsWriter.write(
        path: path,
        try source.entries.reversed().map { entry in
          .init(
            name: entry.name, dtype: try #require(entry.type.dtype), shape: entry.shape,
            bytes: Array(try source.bytes(of: entry.name)))
        })
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data(try Fixture.bytes("model.safetensors")))
    }
  }

  @Test func writerLeavesNothingBehindOnFailure() throws {
    struct Stop: Error {}
    try Fixture.withFolder { folder in
      let path = folder + "/x.safetensors"
      #expect(throws: Stop.self) {
        try SafetensorsWriter.write(path: path, [.init(name: "a", dtype: .f32, shape: [2]) { _ in throw Stop() }])
      }
      #expect(throws: FormatError.self) {
        try SafetensorsWriter.write(path: path, [.init(name: "a", dtype: .f32, shape: [2], bytes: [1, 2, 3])])
      }
      #expect(throws: FormatError.duplicate(path: path, name: "a")) {
        let item = SafetensorsWriter.Item(name: "a", dtype: .u8, shape: [], bytes: [1])
        try SafetensorsWriter.write(path: path, [item, item])
      }
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(left == [])
    }
  }

  @Test(arguments: [
    #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
    #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
    #"{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}}"#,
    #"{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]}}"#,
    #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}"#,
    #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
    #"{"a":{"dtype":"U8","shape":[4611686018427387904,4611686018427387904,0],"data_offsets":[0,0]}}"#,
    #"{"__metadata__":{"a":1}}"#, "[]", "{",
  ]) func badHeadersAreRefused(header: String) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/bad.safetensors"
      let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
      try Fixture.write(path, length + Array(header.utf8) + [0, 0, 0, 0])
      #expect(throws: FormatError.self) { try SafetensorsFile(path: path) }
    }
  }

  /// What the safetensors library 0.8 says of such a file: its tensors must fill it, one behind the other.
  @Test(
    arguments: [
      ([0, 1], [1, 3], 3, true), ([0, 1], [1, 3], 4, false), ([0, 1], [1, 3], 2, false), ([1, 2], [2, 4], 4, false),
      ([0, 1], [2, 4], 4, false), ([0, 2], [1, 3], 3, false), ([0, 1], [0, 1], 1, false), ([0, 1], [0, 0], 1, true),
      ([1, 2], [0, 1], 2, true),
    ] as [([Int], [Int], Int, Bool)])
  func tensorsFillTheFile(a: [Int], b: [Int], count: Int, isRead: Bool) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/a.safetensors"
      func tensor(_ range: [Int]) -> String {
        #"{"dtype":"U8","shape":[\#(range[1] - range[0])],"data_offsets":[\#(range[0]),\#(range[1])]}"#
      }
      let header = #"{"a":\#(tensor(a)),"b":\#(tensor(b))}"#
      let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
      try Fixture.write(path, length + Array(header.utf8) + [UInt8](repeating: 0, count: count))
      let file = try? SafetensorsFile(path: path)
      #expect((file != nil) == isRead)
    }
  }

  /// As mlx writes a file without metadata.
  @Test func nullIsNoMetadata() throws {
    try Fixture.withFolder { folder in
      let header = #"{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
      let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
      try Fixture.write(folder + "/a.safetensors", length + Array(header.utf8) + [0, 0, 0, 0])
      let file = try SafetensorsFile(path: folder + "/a.safetensors")
      #expect(file.metadata.isEmpty && file.entries.map(\.name) == ["a"])
    }
  }

  @Test func shardsAreOne() throws {
    let source = try SafetensorsFile(path: Fixture.path("model.safetensors"))
    try Fixture.withFolder { folder in
      var map = JSONObject()
      for (i, entry) in source.entries.enumerated() { map[entry.name] = .string("part-\(i % 2).safetensors") }
      for part in 0..<2 {
        let items = try source.entries.enumerated().filter { $0.offset % 2 == part }.map { _, entry in
          SafetensorsWriter.Item(
            name: entry.name, dtype: .bf16, shape: entry.shape, bytes: Array(try source.bytes(of: entry.name)))
        }
        try SafetensorsWriter.write(path: folder + "/part-\(part).safetensors", items)
      }
      let index = folder + "/model.safetensors.index.json"
      try AtomicFile.write(index, (["weight_map": .object(map)] as JSON).text(.python))
      let checkpoint = try WeightFiles(directory: folder)
      #expect(Set(checkpoint.names) == Set(source.entries.map(\.name)))
      let (file, entry) = try checkpoint.find("model.norm.weight")
      #expect(try Array(file.bytes(of: entry.name)) == Array(try source.bytes(of: "model.norm.weight")))
      try FileManager.default.removeItem(atPath: folder + "/part-1.safetensors")
      #expect(
        throws: FormatError.missingShard(index: index, shard: "part-1.safetensors", tensor: source.entries[1].name)
      ) {
        try WeightFiles(directory: folder)
      }
    }
  }
}
