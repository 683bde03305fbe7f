import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Adapters
@testable import Models

private let fixtures = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }
private let names = [
  "qwen3_moe", "qwen3_moe_full", "olmoe", "mixtral", "gpt_oss", "gpt_oss_mxfp4", "qwen3_next", "qwen3_next_full",
  "qwen3_5_moe_text",
]

private func load(_ name: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load("\(fixtures)/\(name)")
}

/// Gives every B values, so that adapters change something.
private func fill(_ model: LanguageModel) throws {
  for (index, adapter) in model.adapters.enumerated() {
    let stream = RandomStream(seed: 3, stream: UInt64(index))
    try model.backend.fillNormal(adapter.tensors[1], mean: 0, deviation: 0.1, stream: stream)
  }
}

private func configuration(_ folder: String) throws -> JSON { try JSON.read(path: folder + "/adapter_config.json") }

/// Adapters on experts by PEFT's `target_parameters`; the adapters of PEFT are those of `make_experts.py`.
@Suite struct ExpertParameterTests {
  @Test(arguments: names) func anAdapterOfPEFTGivesItsLogitsAndLoss(name: String) throws {
    let model = try load(name)
    let golden = try WeightSource(path: "\(fixtures)/\(name)/golden.safetensors")
    let folder = "\(fixtures)/\(name)/adapter_parameters"
    let count = try PEFTFiles.load(folder, into: model, trainable: true)
    #expect(count == model.modules.count { $0.isExpert || $0.isRouter || ["q_proj", "o_proj"].contains($0.role) })
    #expect(relativeError(try model.logits(ids).floats(), try golden.read("parameter_logits")) < 1e-5)
    let loss = try model.loss(Batch([(ids, nil)])), wanted = Double(try golden.read("parameter_loss")[0])
    #expect(abs(try loss.item() - wanted) < 1e-5 * wanted)
    try loss.backward()
    // Gradients by PEFT's tensors, where each module is one there: a matrix of all experts has the sum of the squares.
    func norm(_ values: [Float]) -> Double { values.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot() }
    let file = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
    var compared = 0
    let stacks = try PEFTExperts(try configuration(folder), model, path: folder).stacks
    for stack in stacks where stack.experts[0].count == 1 {
      for (place, part) in [LoRA.nameOfA, LoRA.nameOfB].enumerated() {
        let key = "base_model.model.\(stack.key).\(part)"
        _ = try #require(file.entry(key))
        let own = try stack.modules.flatMap { try $0.adapter?.tensors[place].gradient?.floats() ?? [] }
        let theirs = norm(try golden.read("parameter_grad." + key))
        #expect(abs(norm(own) - theirs) < 1e-3 * theirs, "\(key)")
        compared += 1
      }
    }
    #expect(compared >= 4)
  }

  /// Read and written again it is the same file where a tensor there is a module here, and else gives the same logits.
  @Test(arguments: names) func whatIsReadIsWrittenSo(name: String) throws {
    let model = try load(name), folder = "\(fixtures)/\(name)/adapter_parameters"
    try PEFTFiles.load(folder, into: model)
    let logits = try model.logits(ids).floats()
    try withFolder { target in
      let path = target.path + "/adapter"
      try PEFTFiles.save(model, directory: path)
      let theirs = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
      let written = try SafetensorsFile(path: path + "/adapter_model.safetensors")
      #expect(Set(written.entries.map(\.name)) == Set(theirs.entries.map(\.name)))
      for entry in theirs.entries where name.hasPrefix("gpt_oss") || !entry.name.contains("base_layer") {
        let same = try theirs.bytes(of: entry.name).elementsEqual(try written.bytes(of: entry.name))
        #expect(same, "\(entry.name)")
      }
      let (ours, original) = (try configuration(path), try configuration(folder))
      func targets(_ json: JSON) -> Set<String> { Set(json["target_parameters"]?.array?.compactMap(\.string) ?? []) }
      #expect(targets(ours) == targets(original))
      model.removeAdapters()
      try PEFTFiles.load(path, into: model)
      #expect(try model.logits(ids).floats() == logits)
    }
  }

  /// Adapters made here come back as they were: rank, alpha and every tensor, also where two modules share one of
  /// PEFT's.
  @Test(arguments: names, [false, true]) func ownAdaptersComeBackAsTheyWere(name: String, stabilised: Bool) throws {
    let model = try load(name)
    let chosen = model.modules.filter { $0.isExpert || $0.role == "q_proj" }
    try model.attach(
      chosen.map { ($0.name, LoRA(rank: 3, alpha: 5, rankStabilised: stabilised)) })
    try fill(model)
    let before = try model.adapters.flatMap { try $0.tensors.map { try $0.floats() } }
    let names = model.adapters.map(\.moduleName)
    try withFolder { target in
      let path = target.path + "/adapter"
      try PEFTFiles.save(model, directory: path)
      #expect(
        try configuration(path)["target_parameters"] == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"])
      #expect(try configuration(path)["target_modules"] == ["q_proj"])
      model.removeAdapters()
      try PEFTFiles.load(path, into: model)
    }
    #expect(model.adapters.map(\.moduleName) == names)
    #expect(try model.adapters.flatMap { try $0.tensors.map { try $0.floats() } } == before)
    #expect(model.adapters.allSatisfy { adapter in (adapter.method as? LoRA)?.rank == 3 })
  }

  /// PEFT takes feed-forward modules of the layers without experts for experts, unless they are parameters.
  @Test func feedForwardModulesBesideExpertsAreParameters() throws {
    let model = try load("qwen3_moe")
    try model.attach(
      model.modules.filter { $0.isLayerMatrix && !$0.isRouter }.map { ($0.name, LoRA(rank: 2, alpha: 4)) })
    try withFolder { target in
      try PEFTFiles.save(model, directory: target.path + "/a")
      let json = try configuration(target.path + "/a")
      let mlp = ["down_proj", "gate_proj", "up_proj"].map { JSON.string("mlp.\($0).weight") }
      #expect(
        json["target_parameters"]
          == .array([mlp[0], "mlp.experts.down_proj", "mlp.experts.gate_up_proj", mlp[1], mlp[2]]))
      #expect(json["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"])
    }
  }

  /// Experts that are not adapted alike: what PEFT computes from the pair of a tensor is what each module has.
  @Test(arguments: ["olmoe", "mixtral", "gpt_oss"], 0..<7)
  func unlikeExpertsAreOnePairOfPEFT(name: String, choice: Int) throws {
    let model = try load(name)
    func isGate(_ module: Module) -> Bool { ["gate_proj", "w1", "gate_up_proj"].contains(module.role) }
    func isSecond(_ module: Module) -> Bool { module.name.contains("experts.1.") }
    let choices: [(Module) -> LoRA?] = [
      { _ in LoRA(rank: 2, alpha: 4, dropout: 0.1) },
      { LoRA(rank: 4, alpha: isSecond($0) ? 3 : 5) },
      { isSecond($0) ? LoRA(rank: 3, alpha: 4) : nil },
      { isGate($0) ? LoRA(rank: 2, alpha: 4) : nil },
      { LoRA(rank: isGate($0) ? 3 : 2, alpha: 4) },
      { LoRA(rank: isSecond($0) ? 5 : 2, alpha: 7, rankStabilised: true) },
      { isGate($0) || isSecond($0) ? LoRA(rank: isSecond($0) ? 1 : 4, alpha: 5) : nil },
    ]
    try model.attach(model.modules.filter(\.isExpert).compactMap { m in choices[choice](m).map { (m.name, $0) } })
    try fill(model)
    let logits = try model.logits(ids).floats()
    try withFolder { target in
      let path = target.path + "/a"
      try PEFTFiles.save(model, directory: path)
      let json = try configuration(path)
      #expect(json["lora_dropout"]?.double == 0 && json["target_modules"] == [])
      let file = try WeightSource(path: path + "/adapter_model.safetensors")
      let experts = try PEFTExperts(json, model, path: path)
      #expect(Set(file.tensors.map { String($0.name.dropFirst("base_model.model.".count)) }) == experts.keys)
      for stack in experts.stacks {
        // lora.ParamWrapper.get_delta_weight: A is [experts, rank, in] there and B [out, rank, experts].
        let key = "base_model.model." + stack.key, count = stack.experts.count
        let (a, b) = (try file.read("\(key).lora_A.weight"), try file.read("\(key).lora_B.weight"))
        let rank = a.count / count / stack.width
        #expect((json["rank_pattern"]?[stack.parameter] ?? json["r"])?.int == rank)
        let alpha = try #require((json["alpha_pattern"]?[stack.parameter] ?? json["lora_alpha"])?.double)
        let scaling = alpha / (json["use_rslora"] == true ? Double(rank).squareRoot() : Double(rank))
        for (expert, modules) in stack.experts.enumerated() {
          var row = 0
          for module in modules {
            let branch = module.adapter?.lowRank
            let (ownA, ownB) = (try branch?.a.floats() ?? [], try branch?.b.floats() ?? [])
            let own = branch?.a.shape[0] ?? 0
            var difference = 0.0
            for out in 0..<module.outFeatures {
              for column in stride(from: 0, to: stack.width, by: 5) {
                let theirs = (0..<rank).reduce(0.0) { sum, inner in
                  sum + scaling * Double(b[((row + out) * rank + inner) * count + expert])
                    * Double(a[(expert * rank + inner) * stack.width + column])
                }
                let mine = (0..<own).reduce(0.0) { sum, inner in
                  sum + Double(branch?.scaling ?? 0) * Double(ownB[out * own + inner])
                    * Double(ownA[inner * stack.width + column])
                }
                difference = max(difference, abs(theirs - mine))
              }
            }
            #expect(difference < 1e-6, "\(module.name)")
            row += module.outFeatures
          }
        }
      }
      let again = try load(name)
      try PEFTFiles.load(path, into: again)
      #expect(relativeError(try again.logits(ids).floats(), logits) < 1e-5)
      // Another value is found, however little it changes the logits.
      let culprit = try #require(model.modules.last { $0.isExpert && $0.adapter != nil })
      try #require(culprit.adapter).tensors[1].withMutableHostBytes { bytes in
        bytes.bindMemory(to: Float.self)[0] *= 1.00001
      }
      let error = #expect(throws: AdapterError.self) { try PEFTFiles.check(path, against: model) }
      guard case .readsBackDifferently(_, let module, _)? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(module == culprit.name)
    }
  }

  /// Also where nothing else tells the usual rank.
  @Test(arguments: names, 1...4) func expertsAloneComeBackAsTheyWere(name: String, rank: Int) throws {
    let model = try load(name)
    try model.attach(model.modules.filter(\.isExpert).map { ($0.name, LoRA(rank: rank, alpha: 8)) })
    try fill(model)
    let logits = try model.logits(ids).floats()
    try withFolder { target in
      try PEFTFiles.save(model, directory: target.path + "/a")
      model.removeAdapters()
      try PEFTFiles.load(target.path + "/a", into: model)
    }
    #expect(try model.logits(ids).floats() == logits)
    #expect(model.adapters.allSatisfy { ($0.method as? LoRA)?.rank == rank })
  }

  /// PEFT takes the names of feed-forward modules for those of experts where no expert has an adapter too.
  @Test func feedForwardModulesAloneAreParameters() throws {
    let model = try load("qwen3_moe")
    let chosen = model.modules.filter { $0.role == "down_proj" && !$0.isExpert }
    try model.attach(chosen.map { ($0.name, LoRA(rank: 2, alpha: 4)) })
    try withFolder { target in
      try PEFTFiles.save(model, directory: target.path + "/a")
      #expect(try configuration(target.path + "/a")["target_parameters"] == ["mlp.down_proj.weight"])
    }
  }

  /// What PEFT refuses or leaves out is said.
  @Test func whatPEFTDoesOtherwiseIsSaid() throws {
    func notes(_ method: any AdapterMethod) throws -> [String] {
      let model = try load("olmoe")
      try model.attach(model.modules.filter { $0.isExpert || $0.role == "q_proj" }.map { ($0.name, method) })
      return PEFTFiles.notes(model)
    }
    #expect(try notes(LoRA(rank: 2, alpha: 4)).isEmpty)
    let dropped = try notes(LoRA(rank: 2, alpha: 4, dropout: 0.1)), refused = try notes(DoRA(LoRA(rank: 2, alpha: 4)))
    #expect(dropped.count == 1 && dropped[0].contains("lora_dropout is written as 0"))
    #expect(refused.count == 1 && refused[0].contains("dora"))
  }

  /// One tensor of a layer alone needs no second wrapper.
  @Test func oneTensorOfALayerNeedsNoSecondWrapper() throws {
    let model = try load("olmoe")
    let chosen = model.modules.filter { $0.isExpert && $0.role == "down_proj" && $0.layer == 1 }
    try model.attach(chosen.map { ($0.name, LoRA(rank: 2, alpha: 4)) })
    try withFolder { target in
      try PEFTFiles.save(model, directory: target.path + "/a")
      let json = try configuration(target.path + "/a")
      #expect(json["target_parameters"] == ["model.layers.1.mlp.experts.down_proj"] && json["target_modules"] == [])
      let keys = try SafetensorsFile(path: target.path + "/a/adapter_model.safetensors").entries.map(\.name)
      #expect(
        Set(keys) == Set(["A", "B"].map { "base_model.model.model.layers.1.mlp.experts.lora_\($0).weight" }))
    }
  }

  /// Hostile files: errors that name the field or the tensor, and a model without adapters.
  @Test func whatDoesNotFitIsNamed() throws {
    let model = try load("gpt_oss"), folder = "\(fixtures)/gpt_oss/adapter_parameters"
    func refuse(_ part: String, _ change: (inout JSONObject) -> Void = { _ in }, dropping key: String? = nil) throws {
      try withFolder { target in
        var json = try configuration(folder).object ?? JSONObject()
        change(&json)
        try JSON.object(json).text(.python).write(
          toFile: target.path + "/adapter_config.json", atomically: true, encoding: .utf8)
        let file = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
        try SafetensorsWriter.write(
          path: target.path + "/adapter_model.safetensors",
          try file.entries.filter { key.map($0.name.contains) != true }.map {
            .init(name: $0.name, dtype: .f32, shape: $0.shape, bytes: Array(try file.bytes(of: $0.name)))
          })
        let error = #expect(throws: (any Error).self) { try PEFTFiles.load(target.path, into: model) }
        #expect(String(describing: error).contains(part), "\(part): \(String(describing: error))")
        #expect(model.adapters.isEmpty)
      }
    }
    try refuse("input_layernorm.weight", { $0["target_parameters"] = ["experts.down_proj", "input_layernorm.weight"] })
    try refuse(
      "q_proj, of which there is another adapter",
      {
        $0["target_parameters"] = [
          "mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.router.weight", "q_proj.weight",
        ]
      })
    try refuse("target_parameters", { $0["target_parameters"] = "mlp.experts.gate_up_proj" })
    try refuse("target_parameters", { $0["target_parameters"] = [1] })
    try refuse("lora_dropout", { $0["lora_dropout"] = 0.1 })
    try refuse(
      "experts.base_layer.lora_A", { $0["target_parameters"] = ["mlp.experts.down_proj", "mlp.router.weight"] })
    try refuse("has shape [3, 32], expected [4, 32]", { $0["r"] = 4 })
    try refuse("has shape [12, 32], expected [16, 32]", { $0["rank_pattern"] = ["gate_up_proj": 4, "down_proj": 2] })
    try refuse("layers.1.mlp.experts.lora_B.weight", dropping: "layers.1.mlp.experts.lora_B")
    try refuse("layers.0.mlp.router.lora_A.weight", dropping: "layers.0.mlp.router.lora_A")
  }
}
