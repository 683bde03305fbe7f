import Foundation
import Testing

/// `--memory` against what the kernel says a process had, on a model of which a window is a small part.
@Suite(.serialized) struct BudgetTests {
  private static let directory: String? = {
    guard let root = try? Program.temporaryDirectory() else { return nil }
    // Twelve layers of 4.4 MB in 4 bits.
    let sizes = ["hidden=768", "intermediate=2304", "layers=12", "heads=12", "kv_heads=12"].flatMap { ["--set", $0] }
    let made = try? Program.run(sizes + ["\(Program.root.path)/recipes/synthetic.lua", "small", "nf4"], in: root)
    guard made?.code == 0 else { return nil }
    try? recipe.write(to: root.appendingPathComponent("run.lua"), atomically: true, encoding: .utf8)
    return root.path
  }()

  private static let recipe = """
    local qlora = require "qlora"
    local p = qlora.params { stream = "auto", steps = 10, batch = 1, length = 32, group = 1 }
    local choice = { ["true"] = true, ["false"] = false }
    local model = qlora.load("nf4", { stream = choice[p.stream] })
    model:add_lora { select = "all-linear", rank = 8, alpha = 16, dropout = 0.1 }
    local words = {}
    for i = 1, p.batch * p.length do words[i] = ("word %d"):format(i * 7919 % 1000) end
    local data = qlora.data.load({ { text = table.concat(words, " ") } }, {
      format = "text", tokenizer = model.tokenizer, max_length = p.length })
    local optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3, paged = true, budget = "1MiB" })
    local result = qlora.train { model = model, data = data, steps = p.steps, batch = p.batch, optimizer = optimizer,
      checkpointing = p.group > 1 and p.group or true, on_step = function(s) print(("bits %d %a"):format(s.step, \
    s.loss)) end }
    for i, tensor in ipairs(model:trainable()) do
      if i % 20 == 1 then print(("bits tensor %d %a"):format(i, tensor:sum():item())) end
    end
    local plan = model:plan_step { batch = p.batch, length = p.length, optimizer = optimizer, time = false }
    print(("planned %d"):format(plan.peak))
    print(("peak %d"):format(qlora.memory().peak_rss))
    """

  private func run(_ flags: String...) throws -> Program.Outcome {
    let directory = try #require(Self.directory)
    return try Program.run(flags + ["run.lua"], in: URL(fileURLWithPath: directory))
  }

  private func field(_ name: String, _ outcome: Program.Outcome) throws -> Int {
    let line = outcome.output.split(separator: "\n").first { $0.hasPrefix(name + " ") }
    return try #require(line.flatMap { Int($0.dropFirst(name.count + 1)) }, "\(outcome.output) \(outcome.errors)")
  }

  private func bits(_ outcome: Program.Outcome) -> [Substring] {
    outcome.output.split(separator: "\n").filter { $0.hasPrefix("bits ") }
  }

  @Test func aRunKeepsToItsLimitWithTheBitsOfARunWithoutOne() throws {
    let resident = try run("--set", "stream=false")
    #expect(resident.code == 0 && !resident.output.contains("streamed"), "\(resident.errors)")
    let limit = try field("peak", resident) - (25 << 20)
    let streamed = try run("--memory", String(limit))
    #expect(streamed.code == 0, "\(streamed.errors)")
    #expect(streamed.output.contains("base             streamed"), "\(streamed.output)")
    #expect(streamed.output.contains("resident the run needs"), "\(streamed.output)")
    #expect(try field("peak", streamed) <= limit)
    #expect(bits(resident).count > 15 && bits(streamed) == bits(resident))

    // What the plan says fits is enough, and little less is not.
    let planned = try field("planned", streamed)
    let exact = try run("--memory", String(planned), "--set", "group=4")
    #expect(exact.code == 0, "\(exact.errors)")
    #expect(try field("peak", exact) <= planned)
    #expect(bits(exact) == bits(resident))
    #expect(exact.output.contains("checkpointing = 4 counts as true"), "\(exact.output)")
    let less = try run("--memory", String(planned - (12 << 20)))
    #expect(less.code == 1 && less.errors.contains("run.lua:") && less.errors.contains("--memory"), "\(less.errors)")
  }

  @Test func streamFalseIsRefusedWhereTheBaseDoesNotFit() throws {
    let outcome = try run("--memory", "60MB", "--set", "stream=false")
    #expect(outcome.code == 1 && outcome.errors.contains("run.lua:4: out of memory"), "\(outcome.errors)")
    #expect(outcome.errors.contains("stream = true"))
    let both = try run("--set", "stream=true", "--set", "group=4")
    #expect(both.code == 1 && both.errors.contains("4 layers together: a streamed base"), "\(both.errors)")
  }

  /// What the system refuses is an error too, at many sizes of what it gives.
  @Test(arguments: [70, 80, 90, 100, 110, 120, 130, 140])
  func anAddressSpaceThatIsTooSmallIsAnError(megabytes: Int) throws {
    let directory = URL(fileURLWithPath: try #require(Self.directory))
    let process = Program.process([], in: directory)
    let program = try #require(process.executableURL).path
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "ulimit -v \(megabytes * 1000) && exec '\(program)' --threads 2 --set steps=1 run.lua"]
    let (output, errors) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError) = (output, errors)
    try process.run()
    let text = String(decoding: try errors.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit, "signal \(process.terminationStatus): \(text)")
    #expect(process.terminationStatus == 1 && text.contains("run.lua:") && text.contains("memory"), "\(text)")
  }
}
