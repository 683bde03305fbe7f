import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import LuaRuntime
import Models
import Tensors
import Testing

@testable import LuaBindings

/// y = gain * (x W^T + bias) with one trained number: an adapter that is no low-rank branch.
private struct Gain: AdapterMethod {
  static let peftType = "GAIN"
  var settings: [(name: String, value: JSON)] { [("start", .number(1))] }
  func check(_ module: Module) {}
  func parameters(of module: Module) -> [AdapterParameter] { [AdapterParameter("gain", [1])] }
  func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.fill(tensors[0], 1)
  }
  func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor { try binary(.multiply, y, tensors[0]) }
  func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    for target in [weight, bias].compactMap({ $0 }) {
      try target.backend.copy(try binary(.multiply, target, tensors[0]), into: target)
    }
  }
  func work(of module: Module) -> AdapterWork { AdapterWork(passed: 2 * Double(module.outFeatures)) }
  static func configuration(_ adapters: [(module: String, method: Gain)]) -> [(String, JSON)] { [] }
  static func reader(_ configuration: JSON, path: String) -> AdapterReader { { _, _ in Gain() } }
}

/// An adapter of a method that the library does not know, in a recipe: read, shown, explored, planned, trained, saved
/// and merged.
@Suite struct PluggedAdapterTests {
  private let program = """
    local directory, copy = ...
    local qlora = require "qlora"
    local explore = require "qlora.explore"
    local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32", quiet = true })
    local q = model:module "model.layers.0.self_attn.q_proj"
    assert(model:add_adapter(directory, { trainable = true }) == 5 and q.adapter.kind == "gain")
    local gain = q.adapter.parameters.gain
    assert(gain and q.adapter.start == 1 and q.adapter.a == nil and q.adapter.rank == nil)
    assert(model:tree():find("gain start 1", 1, true), model:tree())
    assert(math.abs(gain:item() - 1.5) < 1e-6)
    local size = math.sqrt(q:weight():square():sum():item())
    assert(math.abs(model:adapter_norms()[q.name] / size - 0.5) < 1e-5)
    local list = explore.adapters(model)
    assert(#list == 5 and list[1].kind == "gain" and not list[1].singular_values)
    assert(math.abs(list[1].relative - 0.5) < 1e-5 and tostring(list):find("gain", 1, true), tostring(list))

    local plan = model:plan_step { batch = 1, length = 16 }
    assert(plan.trainable == 5 and plan.adapter_bytes == 20)
    local optimizer = qlora.optim.adamw(model:trainable(), { lr = 0.1 })
    local rows = { { ids = { 1, 5, 9, 13, 2 }, labels = { -100, 5, 9, 13, 2 } } }
    local losses = {}
    for step = 1, 8 do
      optimizer:zero_grad()
      local loss = model:loss(qlora.data.batch(rows))
      loss:backward()
      assert(#model:missing_gradients() == 0)
      optimizer:step()
      losses[step] = loss:item()
    end
    assert(losses[8] < losses[1], losses[1] .. " to " .. losses[8])
    model:save_adapter(copy)
    local before = model:logits { 1, 2, 3 }
    model:merge()
    assert(q.adapter == nil and (model:logits { 1, 2, 3 } - before):abs():max():item() < 1e-3)
    """

  @Test func anAdapterOfAnotherKindGoesThroughARecipe() throws {
    AdapterMethods.register(Gain.self)
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let model = try ModelLoader(backend: CPUBackend(threadCount: 1), options: LoadOptions(computeType: .f32)).load(
      packageRoot + "/models/tiny")
    try model.attach(model.modules.filter { $0.role == "q_proj" }.map { ($0.name, Gain()) })
    for adapter in model.adapters { try model.backend.fill(adapter.tensors[0], 1.5) }
    try PEFTFiles.save(model, directory: directory + "/gain")

    let (state, engine) = try makeState()
    defer { withExtendedLifetime(engine) {} }
    let chunk = try state.load(Array(program.utf8), chunkName: "=plugged")
    _ = try chunk.call([.string(directory + "/gain"), .string(directory + "/copy")])
    #expect(FileManager.default.fileExists(atPath: directory + "/copy/adapter_config.json"))
  }
}
