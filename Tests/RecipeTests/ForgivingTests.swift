import Foundation
import Testing

/// What people of other tools type by habit works, or stops before anything runs.
@Suite struct ForgivingTests {
  private func folder(_ recipe: String) throws -> URL {
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return directory
  }

  @Test func valuesMayStandBehindAnEqualsSign() throws {
    let directory = try folder(
      """
      local qlora = require "qlora"
      local p = qlora.params { name = "a" }
      print(p.name, qlora.native.options.seed, qlora.native.options.memory)
      """)
    let flags = ["--seed=3", "recipe.lua", "--set=name=x=y", "--memory=2GB"]
    #expect(try Program.run(flags, in: directory).output == "x=y\t3\t2000000000\n")
    for wrong in ["--plan=yes", "--seed=", "--seed=x", "--nothing=1"] {
      let outcome = try Program.run([wrong, "recipe.lua"], in: directory)
      #expect(outcome.code == 2 && outcome.output.isEmpty, "\(wrong): \(outcome)")
    }
  }

  @Test func whatNobodyReadsStopsTheRun() throws {
    let directory = try folder("print 'ran'")
    for word in ["--paln", "-i", "word"] {
      let outcome = try Program.run(["recipe.lua", word], in: directory)
      #expect(outcome.code == 2 && outcome.output.isEmpty && outcome.errors.contains("nobody reads '\(word)'"))
    }
    let near = try Program.run(["recipe.lua", "--paln"], in: directory)
    #expect(near.errors.contains(#"did you mean "--plan"?"#), "\(near.errors)")
  }

  @Test func mathRandomFollowsTheSeed() throws {
    let draw = ["-e", "print(math.random(1 << 40))"]
    let first = try Program.run(["--seed", "1"] + draw).output
    #expect(try Program.run(["--seed=1"] + draw).output == first)
    #expect(try Program.run(["--seed=2"] + draw).output != first)
    #expect(try Program.run(draw).output == Program.run(draw).output)
  }

  @Test func aMistakeIsToldInTwoLines() throws {
    let outcome = try Program.run(["--plna"])
    #expect(outcome.errors.split(separator: "\n").count == 2, "\(outcome.errors)")
  }

  @Test func helpKnowsCommandsFlagsRecipesAndNames() throws {
    for (topic, text) in [
      ("copy", "usage: qlora-run copy NAME [DEST]"), ("--seed", "math.random"), ("quickstart", "a recipe that ships"),
      ("qlora.load", "qlora.load(path, [options])"),
    ] {
      let outcome = try Program.run(["--help", topic])
      #expect(outcome.code == 0 && outcome.output.contains(text), "\(topic): \(outcome)")
    }
    #expect(try Program.run(["--help", "no such topic"]).code == 2)
  }

  /// The recipe, the parameters of --set, the seed and the arguments come from the run directory.
  @Test func resumeAloneGoesOnWithWhatLiesInTheRun() throws {
    let directory = try folder(
      """
      local qlora = require "qlora"
      local p = qlora.params { rank = 4, steps = 2 }
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      model:add_lora { select = { "q_proj" }, rank = p.rank }
      local data = qlora.data.load({ { input = "a", output = "b" }, { input = "c", output = "d" } },
        { format = "input_output", tokenizer = model.tokenizer, max_length = 32 })
      print("rank", p.rank, ..., math.random(1 << 40))
      qlora.train { model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
        steps = p.steps, batch = 1, save_every = 1, dir = "run" }
      """)
    let first = try Program.run(["--seed=5", "recipe.lua", "--set", "rank=2", "word"], in: directory)
    #expect(first.code == 0, "\(first.errors)")
    try FileManager.default.removeItem(at: directory.appendingPathComponent("recipe.lua"))
    let second = try Program.run(["--resume", "run", "--set", "steps=3"], in: directory)
    #expect(second.code == 0 && second.output.contains("3 steps"), "\(second)")
    let line = try #require(first.output.split(separator: "\n").first { $0.hasPrefix("rank") })
    #expect(line.hasPrefix("rank\t2\tword\t") && second.output.contains(line), "\(second.output)")
    let summary = directory.appendingPathComponent("run/summary.json")
    let before = try String(contentsOf: summary, encoding: .utf8)
    let again = try Program.run(["--resume", "run", "--set", "steps=3"], in: directory)
    #expect(again.code == 0 && again.output.contains("the run in run is finished: 3 of 3 steps are done"), "\(again)")
    #expect(try String(contentsOf: summary, encoding: .utf8) == before)
    let misspelt = try Program.run(["serv", "tiny"], in: directory)
    #expect(
      misspelt.code == 2 && misspelt.errors.contains(#"(did you mean the command "serve"?)"#), "\(misspelt.errors)")
    let bare = try Program.run(["--resume"], in: directory)
    #expect(bare.code == 2 && bare.errors.contains("--resume needs a run directory"))
  }
}
