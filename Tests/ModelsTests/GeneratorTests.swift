import Adapters
import CPUBackend
import Tensors
import Testing
import Tokenizers

@testable import Models

private let longIDs: [Int32] = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }

private func load(_ path: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load(SmolLM2.root.appendingPathComponent(path).path)
}
private func loadTiny() throws -> LanguageModel { try load("models/tiny") }

/// Texts that grow together are those that grow alone.
@Suite struct GeneratorTests {
  private let names = ["gemma3", "gpt_oss", "phi3_long", "qwen3_next", "qwen3_moe", "smollm3"]

  /// Sequences of several lengths, of several tokens at once and of one, in one pass.
  @Test func oneStepOfSeveralIsThatOfEach() throws {
    for name in names {
      let model = try load("Tests/Fixtures/families/" + name)
      let texts = [longIDs.prefix(61), longIDs[100..<103], longIDs[7..<40]].map(Array.init)
      let cuts = [[5, 55, 1], [1, 1, 1], [32, 0, 1]]
      let caches = try texts.map { _ in try KeyValueCache(model, capacity: 2) }
      var together: [Int: [Float]] = [:]
      for round in 0..<3 {
        let members = texts.indices.filter { cuts[$0][round] > 0 }
        let rows = try model.step(
          members.map { i in
            let start = caches[i].length
            return (Array(texts[i][start..<start + cuts[i][round]]), caches[i])
          })
        for (row, i) in members.enumerated() {
          together[i] = try rows.narrowed(0, row..<row + 1).copied().floats()
        }
      }
      for (i, text) in texts.enumerated() {
        #expect(caches[i].ids == text)
        let alone = try model.step(text, cache: KeyValueCache(model, capacity: text.count)).floats()
        #expect(relativeError(together[i] ?? [], alone) < 2e-5, "\(name), text \(i)")
      }
    }
  }

  private func prompts(_ model: LanguageModel) throws -> [[Int32]] {
    try ["Mia", "The baker walked to the market", String(repeating: "the mill ", count: 60)].map {
      try #require(model.tokenizer).encode($0)
    }
  }

  /// Texts that come between steps, one with a prompt of several chunks, one that ends early.
  @Test func textsComeAndGo() throws {
    let model = try loadTiny()
    let prompts = try prompts(model)
    let alone = try prompts.enumerated().map { try model.generateText($1, GenerationOptions(maxTokens: 6 + 4 * $0)) }
    let generator = Generator(model)
    var told = ["", "", ""]
    let sequences = try prompts.enumerated().map { i, prompt in
      var options = GenerationOptions(maxTokens: 6 + 4 * i)
      options.onText = { piece in
        told[i] += piece
        return true
      }
      let sequence = try generator.add(prompt, options)
      try generator.step()
      return sequence
    }
    let left = try generator.add(prompts[0], GenerationOptions(maxTokens: 50))
    try generator.step()
    try left.stop()
    #expect(generator.count == 3 && !left.isOpen && left.writtenCount == 1 && left.text?.isEmpty == false)
    while generator.count > 0 { try generator.step() }
    #expect(sequences.map(\.text) == alone && told == alone)
    #expect(sequences.map(\.writtenCount) == [6, 10, 14] && sequences.allSatisfy(\.isFull))
  }

  @Test func aNewcomersPromptIsReadInChunks() throws {
    let model = try load("Tests/Fixtures/families/smollm3")
    model.tokenizer = try Tokenizer.find(directory: SmolLM2.root.appendingPathComponent("models/tiny").path)
    let generator = Generator(model)
    let prompt = Array((longIDs + longIDs + longIDs).prefix(Generator.promptChunk + 40))
    let one = try generator.add([5], GenerationOptions(maxTokens: 9, ignoresEndOfSequence: true))
    try generator.step()
    let long = try generator.add(prompt, GenerationOptions(maxTokens: 9, ignoresEndOfSequence: true))
    try generator.step()
    #expect(one.writtenCount == 2 && long.writtenCount == 0)
    try generator.step()
    #expect(one.writtenCount == 3 && long.writtenCount == 1)
  }

  /// Texts of two adapters never share a pass.
  @Test func otherAdaptersAreRefused() throws {
    let model = try loadTiny()
    let generator = Generator(model)
    try model.attach(
      model.modules.filter { $0.role == "q_proj" }.map { ($0.name, LoRA(rank: 2, alpha: 4)) })
    let one = try generator.add([5, 6], GenerationOptions(maxTokens: 4))
    model.usesAdapters = false
    #expect(throws: ModelError.otherAdapters(texts: 1)) { try generator.step() }
    #expect(throws: ModelError.otherAdapters(texts: 1)) { try generator.add([5], GenerationOptions()) }
    model.usesAdapters = true
    try generator.step()
    #expect(one.writtenCount == 1)
  }

  /// What one text's reader throws ends that text alone.
  @Test func anErrorOfOneReaderEndsOneText() throws {
    struct Wrong: Error {}
    let model = try loadTiny()
    let generator = Generator(model)
    let one = try generator.add([5, 6], GenerationOptions(maxTokens: 4, onToken: { _ in throw Wrong() }))
    let other = try generator.add([7, 6], GenerationOptions(maxTokens: 4))
    #expect(throws: Wrong.self) { try generator.step() }
    #expect(!one.isOpen && one.problem is Wrong && one.text == nil && other.writtenCount == 1)
    while generator.count > 0 { try generator.step() }
    #expect(other.text != nil)
  }
}
