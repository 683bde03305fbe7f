import Testing

@testable import Formats

/// Damaged files must be refused or read, never trap or read outside the mapping.
@Suite struct FuzzTests {
  private func mutations(_ original: [UInt8], header: Int, count: Int, _ use: (String) throws -> Void) throws {
    var random = SplitMix(state: 42)
    var refused = 0
    try Fixture.withFolder { folder in
      let path = folder + "/damaged"
      for round in 0..<count {
        var bytes = original
        if round % 3 == 0 {
          bytes.removeLast(Int(random.next() % UInt64(bytes.count)) + 1)
        } else {
          for _ in 0..<(round % 3) * 2 {
            let at = Int(random.next() % UInt64(header))
            // Whole bytes make huge counts likelier than single bits do.
            if random.next() % 2 == 0 { bytes[at] ^= 1 << UInt8(random.next() % 8) } else { bytes[at] = 0xFF }
          }
        }
        try Fixture.write(path, bytes)
        do { try use(path) } catch is FormatError { refused += 1 }
      }
    }
    #expect(refused > count / 3)
  }

  @Test func safetensors() throws {
    try mutations(Fixture.bytes("model.safetensors"), header: 1200, count: 1500) { path in
      let file = try SafetensorsFile(path: path)
      for entry in file.entries { _ = try file.bytes(of: entry.name).last }
    }
  }

  @Test func gguf() throws {
    try mutations(Fixture.bytes("types.gguf"), header: 1200, count: 2000) { path in
      let file = try GGUFFile(path: path)
      for tensor in file.tensors where tensor.rowCount * tensor.rowLength < 1 << 16 {
        var out = [Float](repeating: 0, count: tensor.rowCount * tensor.rowLength + 1)
        try file.dequantize(tensor.name, rows: 0..<tensor.rowCount, into: &out)
      }
    }
  }

  @Test func json() throws {
    var random = SplitMix(state: 1)
    let original = Array(#"{"a":[1,-2.5e3,"x\u00e9\n\ud83d\ude00",null,true,{"b":{}}],"é":false,"c":""}"#.utf8)
    _ = try JSON.parse(original)
    for _ in 0..<20000 {
      var bytes = original
      bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
      if random.next() % 4 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
      guard let value = try? JSON.parse(bytes) else { continue }
      let again = try JSON.parse(value.text(.python))
      #expect(again == value)
    }
  }
}

struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
