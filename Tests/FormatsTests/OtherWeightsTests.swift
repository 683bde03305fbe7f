import Testing

@testable import Formats

/// Model folders that hold something else than the readers look for.
@Suite struct OtherWeightsTests {
  private static let pointer = Array(
    """
    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
    size 12345

    """.utf8)

  @Test func aGitPointerIsNoFile() throws {
    try Fixture.withFolder { folder in
      for name in ["model.safetensors", "model.gguf", "tokenizer.json", "model.safetensors.index.json"] {
        let path = "\(folder)/\(name)"
        try Fixture.write(path, Self.pointer)
        let error = FormatError.gitPointer(path: path)
        #expect(throws: error) { try SafetensorsFile(path: path) }
        #expect(throws: error) { try GGUFFile(path: path) }
        #expect(throws: error) { try JSON.read(path: path) }
        #expect("\(error)".contains("git lfs pull"))
      }
      // What only begins so and is long is a text like any other.
      try Fixture.write(folder + "/long", Self.pointer + [UInt8](repeating: 10, count: 1024))
      #expect(try MappedFile(path: folder + "/long").byteCount > 1024)
    }
  }

  @Test(arguments: [
    ("pytorch_model.bin", "pickle"), ("consolidated.00.pth", "pickle"), ("consolidated.safetensors", "maker"),
    ("model-00001-of-00002.safetensors", "index"), ("weights.safetensors", "name it model.safetensors"),
    ("model.safetensors.part", "not ended"), ("model.gguf.incomplete", "not ended"), ("tf_model.h5", "form"),
  ])
  func otherWeightsAreNamed(name: String, words: String) throws {
    try Fixture.withFolder { folder in
      for other in ["config.json", "training_args.bin", "optimizer.pt"] { try Fixture.write("\(folder)/\(other)", []) }
      #expect(OtherWeights.find(in: folder) == nil)
      try Fixture.write("\(folder)/\(name)", [])
      let error = #expect(throws: FormatError.self) { try WeightFiles(directory: folder) }
      let text = "\(String(describing: error))"
      #expect(text.contains(name) && text.contains(words), "\(text)")
    }
  }
}
