import Foundation
import Testing

/// A smoke run leaves the results of a real one.
@Suite struct SmokeResultTests {
  private let recipe = """
    local qlora = require "qlora"
    local native = qlora.native
    local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
    model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, quiet = true }
    model:save_adapter "out/adapter/"
    model:remove_adapters()
    model:save "out/model.v1"
    qlora.save("out/one.safetensors", { x = qlora.tensor { native.options.smoke and 2 or 1 } })
    qlora.plot.heatmap(qlora.tensor { { 1, 2 }, { 3, 4 } }, { file = "out/map.svg" })
    assert(model:add_adapter "out/adapter" > 0)
    assert(qlora.load "out/one.safetensors".x:item() == (native.options.smoke and 2 or 1))
    """

  private func contents(_ folder: URL) throws -> [String: Data] {
    var found: [String: Data] = [:]
    for case let name as String in FileManager.default.enumerator(atPath: folder.path) ?? .init() {
      found[name] = FileManager.default.contents(atPath: folder.appendingPathComponent(name).path)
    }
    return found
  }

  @Test func smokeRunsSaveBesideRealResults() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try recipe.write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
    let out = directory.appendingPathComponent("out")
    let first = try Program.run(["--smoke", "r.lua"], in: directory)
    #expect(first.code == 0, "\(first.errors)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: out.path).sorted()
        == ["adapter-smoke", "map-smoke.svg", "model.v1-smoke", "one-smoke.safetensors"])
    #expect(first.errors.contains("--smoke: saved in out/adapter-smoke, so that out/adapter/ stays as it is"))

    try FileManager.default.removeItem(at: out)
    let real = try Program.run(["r.lua"], in: directory)
    #expect(real.code == 0, "\(real.errors)")
    let before = try contents(out)
    #expect(before.count == 11 && before["adapter/adapter_model.safetensors"] != nil, "\(before.keys)")
    let smoke = try Program.run(["--smoke", "r.lua"], in: directory)
    #expect(smoke.code == 0, "\(smoke.errors)")
    #expect(try contents(out).filter { !$0.key.contains("-smoke") } == before)
  }
}
