import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// The real pretrained model against transformers, PEFT and bitsandbytes (Tests/Fixtures/peers/make_smollm2_golden.py).
/// Needs the GGUF that `make smollm2` fetches; skipped where it is absent.
enum SmolLM2 {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static let path: String? = {
    let candidates: [String?] = [
      ProcessInfo.processInfo.environment["QLORA_SMOLLM2_GGUF"],
      root.appendingPathComponent("downloads/SmolLM2-135M-Instruct.Q4_1.gguf").path,
    ]
    return candidates.compactMap { $0 }.first { FileManager.default.fileExists(atPath: $0) }
  }()

  /// The stored numbers, or those of the peers just run where Benchmarks/peers/check_parity.sh points to.
  static func golden(_ name: String) throws -> JSON {
    let stored = root.appendingPathComponent("Tests/Fixtures/peers").path
    return try JSON.read(path: "\(ProcessInfo.processInfo.environment["QLORA_GOLDEN"] ?? stored)/\(name)")
  }

  static func load(_ options: LoadOptions) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(), options: options).load(try #require(path))
  }
}

extension JSON {
  func ids(_ key: String) throws -> [Int32] { try #require(self[key]?.array).map { Int32(try #require($0.int)) } }
  func doubles(_ key: String) throws -> [Double] { try #require(self[key]?.array).map { try #require($0.double) } }
}

@Suite(.serialized, .enabled(if: SmolLM2.path != nil, "SmolLM2 is not here; `make smollm2` fetches it"))
struct SmolLM2GoldenTests {
  @Test func logitsAndGreedyContinuationsEqualTransformers() throws {
    let model = try SmolLM2.load(LoadOptions(computeType: .f32))
    for entry in try #require(SmolLM2.golden("smollm2_logits.json")["cases"]?.array) {
      let ids = try entry.ids("ids")
      let all = try model.logits(ids)
      let last = try all.selected(0, ids.count - 1).floats()
      let scale = try #require(entry["std"]?.double)
      for (id, value) in zip(try entry.ids("probe_ids"), try entry.doubles("probe_logits")) {
        #expect(abs(Double(last[Int(id)]) - value) < 1e-3 * scale)
      }
      for (id, value) in zip(try entry.ids("top_ids"), try entry.doubles("top_logits")) {
        #expect(abs(Double(last[Int(id)]) - value) < 1e-3 * scale)
      }
      let wanted = try entry.ids("continuation")
      let got = try model.generate(ids, GenerationOptions(maxTokens: 32, ignoresEndOfSequence: true))
      #expect(got == wanted && got.count == 32)
    }
  }

  @Test func qloraFollowsTheLossCurveOfTransformersPEFTAndBitsandbytes() throws {
    let golden = try SmolLM2.golden("smollm2_qlora.json")
    let model = try SmolLM2.load(LoadOptions(quantization: .nf4, computeType: .f32))
    let linear = model.modules.filter { $0.kind == .linear && $0.role != "lm_head" }
    try model.attach(
      linear.map { ($0.name, LoRA(rank: 16, alpha: 16, initialization: .portable)) })
    let ids = try golden.ids("ids")
    let length = try #require(golden["length"]?.int)
    let rate = try Float(#require(golden["learning_rate"]?.double))
    let parameters = model.trainableParameters
    let states = try parameters.map { try Tensor(full: [2, $0.tensor.elementCount], value: 0, on: model.backend) }
    for (step, wanted) in try golden.doubles("losses").enumerated() {
      let loss = try model.loss(Batch([(Array(ids[step * length..<(step + 1) * length]), nil)]))
      let value = try loss.item()
      #expect(abs(value - wanted) < 1e-3 * wanted, "step \(step): \(value), peers have \(wanted)")
      try loss.backward()
      for (parameter, state) in zip(parameters, states) {
        let gradient = try #require(parameter.tensor.gradient)
        try model.backend.update(
          OptimizerUpdate(.adamW, learningRate: rate), parameter: parameter.tensor, gradient: gradient,
          state: [state.selected(0, 0), state.selected(0, 1)], step: step + 1, gradientScale: 1)
        if step == 0, parameter.name.contains("lora_B") {
          let norm = try model.backend.sumOfSquares([gradient]).squareRoot()
          let peer = try #require(golden["step0_lora_b_gradient_norms"]?[parameter.name]?.double)
          #expect(abs(norm - peer) < 2e-3 * peer, "\(parameter.name): gradient norm \(norm), peers have \(peer)")
        }
        parameter.tensor.gradient = nil
      }
    }
  }
}
