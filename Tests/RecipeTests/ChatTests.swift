import Foundation
import Testing

/// `qlora-run chat` on pipes; the terminal is tried by hand.
@Suite struct ChatTests {
  private func chat(_ input: String, _ flags: [String] = []) throws -> Program.Outcome {
    try Program.run(["chat", "tiny", "--max-tokens", "8", "--temperature=0"] + flags, input: input)
  }

  @Test func eachLineIsAnswered() throws {
    let outcome = try chat("Mia the baker walked to\nTom the farmer ran to\n")
    let answers = outcome.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    #expect(outcome.code == 0 && answers.count == 2 && answers.allSatisfy { $0.count > 10 }, "\(outcome)")
    #expect(outcome.errors.contains("cut off after 8 tokens") && outcome.errors.contains("no chat template"))
    #expect(try chat("Mia the baker walked to\n").output == answers[0] + "\n")
  }

  @Test func settingsAreTakenOrNamed() throws {
    let outcome = try chat(
      "/set temperature 0.5\n/set tempratur 1\n/set top_p 2\n/shw\n/set max-tokens 2\nMia\n/show\n/exit\nx\n")
    for text in [
      "temperature = 0.5", #"(did you mean "temperature"?)"#, "top_p needs a number from 1e-06 to 1",
      #"(did you mean "/show"?)"#,
      "max_tokens = 2", "user: Mia", "assistant: ",
    ] {
      #expect(outcome.errors.contains(text), "\(text): \(outcome.errors)")
    }
    #expect(outcome.code == 0 && outcome.output.split(separator: "\n").count == 1)
  }

  /// An adapter is put on and taken off within the conversation, and its folder alone brings its base.
  @Test func adaptersAreSwitched() throws {
    let directory = try Program.temporaryDirectory()
    try """
    local qlora = require "qlora"
    local model = qlora.load(qlora.resource "models/tiny")
    model:add_lora { select = "all-linear", rank = 4 }
    for _, tensor in ipairs(model:trainable()) do tensor:fill_(0.4) end
    model:save_adapter "noise"
    """.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    #expect(try Program.run(["recipe.lua"], in: directory).code == 0)
    let flags = ["--max-tokens=6", "--temperature", "0"]
    let input = "Mia\n/adapter none\nMia\n/adapter noise\nMia\n/adapter nowhere\n"
    let switched = try Program.run(["chat", "tiny", "noise"] + flags, in: directory, input: input)
    let answers = switched.output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    #expect(answers.count == 4 && answers[0] != answers[1] && answers[0] == answers[2], "\(switched)")
    #expect(switched.errors.contains("nowhere: not an adapter"))
    let alone = try Program.run(["chat", "noise"] + flags, in: directory, input: "Mia\n")
    #expect(alone.code == 0 && alone.output == answers[0] + "\n", "\(alone)")
  }

  /// An adapter that was trained under a template by name is talked to under it, on a base that has none.
  @Test func anAdapterBringsItsTemplate() throws {
    let directory = try Program.temporaryDirectory()
    try """
    local messages = { { role = "user", content = "Who?" }, { role = "assistant", content = "Mia." } }
    local model = qlora.load(qlora.resource "models/tiny", { quiet = true })
    local data = qlora.data.from_records({ { messages = messages } }, { format = "chat", template = "zephyr",
      tokenizer = model.tokenizer })
    model:add_lora { select = "all-linear", rank = 4, quiet = true }
    qlora.train { model = model, data = data, steps = 2, batch = 1,
      optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-2 }) }
    model:save_adapter "own"
    model:save_adapter("mlx", { as = "mlx" })
    local talk = require "qlora.talk"
    local function prompt(talker, name)
      local given = talker:prompt({ messages[1] }, name)
      return type(given) == "table" and table.concat(given, " ") or given
    end
    local trained = table.concat(data[1].ids, " ")
    local talker = talk.open("tiny", { adapters = { "own" } })
    assert(prompt(talker) == "Who?" and not talker:template(nil))
    assert(#prompt(talker, "own") > 10 and trained:sub(1, #prompt(talker, "own")) == prompt(talker, "own"))
    talker:use "own"
    assert(talker.model.turn_end == talker.model.tokenizer.eos)
    talker:use(nil)
    assert(not talker.model.turn_end)
    assert(prompt(talk.open("tiny", { template = "zephyr" })) == prompt(talker, "own"))
    """.write(to: directory.appendingPathComponent("make.lua"), atomically: true, encoding: .utf8)
    let made = try Program.run(["--quiet", "-e", "dofile 'make.lua' -- qlora"], in: directory)
    #expect(made.code == 0, "\(made.errors)")
    let flags = ["--max-tokens=4", "--temperature=0"]
    let own = try Program.run(["chat", "own"] + flags, in: directory, input: "Who?\n/adapter none\n")
    #expect(own.code == 0 && own.errors.components(separatedBy: "no chat template").count == 2, "\(own.errors)")
    let mlx = try Program.run(["chat", "mlx"] + flags, in: directory, input: "Who?\n/adapter\n")
    #expect(mlx.code == 0 && mlx.errors.contains("on: mlx"), "\(mlx)")
    let named = try Program.run(["chat", "tiny", "--template", "chatml"] + flags, in: directory, input: "Who?\n")
    #expect(named.code == 0 && !named.errors.contains("no chat template"), "\(named.errors)")
    for (template, words) in [("chatlm", #"did you mean "chatml""#), ("no.jinja", "there is no chat template")] {
      let wrong = try Program.run(["chat", "tiny", "--template", template], in: directory, input: "Who?\n")
      #expect(wrong.code == 1 && wrong.errors.contains(words), "\(wrong)")
    }
    let evaluated = try Program.run(
      ["eval", "--model", "tiny", "--adapter", "mine=own", "--data", "chat.jsonl"],
      in: try {
        try #"{"messages":[{"role":"user","content":"Who?"},{"role":"assistant","content":"Mia."}]}"#
          .write(to: directory.appendingPathComponent("chat.jsonl"), atomically: true, encoding: .utf8)
        return directory
      }())
    #expect(evaluated.code == 0 && evaluated.output.contains("mine "), "\(evaluated)")
  }

  /// A text tells no format: the error says what to type, and that trains.
  @Test func textIsTrainedFromTheCommandLine() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    try String(repeating: "Mia made porridge.\n", count: 90).write(
      to: directory.appendingPathComponent("text.txt"), atomically: true, encoding: .utf8)
    let train = ["--quiet", "train", "--model", "tiny", "--data", "text.txt"]
    let refused = try Program.run(train, in: directory)
    #expect(
      refused.code == 1 && refused.errors.contains("one stream cut into windows: --set format=text"), "\(refused)")
    let small = ["--set", "max_length=64", "--set", "steps=1", "--set", "rank=2"]
    let trained = try Program.run(train + ["--set", "format=text"] + small, in: directory)
    #expect(trained.code == 0, "\(trained)")
    let adapter = directory.appendingPathComponent("out/finetune/adapter_config.json")
    #expect(FileManager.default.fileExists(atPath: adapter.path))
    // More than the 256 tokens that this model reads.
    let evaluated = try Program.run(["eval", "tiny", "--data", "text.txt", "--format", "text"], in: directory)
    #expect(evaluated.code == 0 && evaluated.output.contains("perplexity"), "\(evaluated)")
    let wrong = try Program.run(train + ["--set", "format=txt"] + small, in: directory)
    #expect(wrong.code == 1 && wrong.errors.contains("text"), "\(wrong)")
  }

  /// An adapter that goes on with chats of another template keeps that one: it is said, unless it is its own.
  @Test func anotherTemplateThanThatOfTheAdapterIsSaid() throws {
    let directory = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: directory) }
    let outcome = try Program.run(
      [
        "-e",
        #"""
        local model = qlora.load(qlora.resource "models/tiny")
        model:add_lora { select = { "q_proj" }, rank = 2, quiet = true }
        local chats = { { messages = { { role = "user", content = "Who?" }, { role = "assistant", \#
        content = "Mia." } } } }
        local function train(template)
          print("TRAIN " .. (type(template) == "string" and template or "its own"))
          qlora.train { model = model, steps = 1, batch = 1, optimizer = qlora.optim.adamw(model:trainable(), \#
        { lr = 1e-3 }),
            data = qlora.data.load(chats, { tokenizer = model.tokenizer, template = template }) }
        end
        train "alpaca"
        train(qlora.chat.for_model(model))
        train "zephyr"
        """#,
      ], in: directory)
    #expect(outcome.code == 0, "\(outcome)")
    let parts = outcome.output.components(separatedBy: "TRAIN ").dropFirst().map { $0.contains("of another template") }
    #expect(parts == [false, false, true], "\(outcome.output)")
  }

  /// Where there is no template, the error says how whoever typed the command names one.
  @Test func aLackingTemplateIsNamedAsItIsTyped() throws {
    let directory = try Program.temporaryDirectory()
    let chat = #"{"messages":[{"role":"user","content":"Who?"},{"role":"assistant","content":"Mia."}]}"#
    try chat.write(to: directory.appendingPathComponent("chat.jsonl"), atomically: true, encoding: .utf8)
    let call = #"""
      local m = qlora.load(qlora.resource "models/tiny"); qlora.data.load("chat.jsonl", { tokenizer = m.tokenizer })
      """#
    let train = ["train", "--model", "tiny", "--data", "chat.jsonl"]
    for (words, text) in [
      (["eval", "tiny", "--data", "chat.jsonl"], "name one: --template chatml (alpaca, chatml, "),
      (train, "name one: --set template=chatml (alpaca"), (["out/finetune.lua"], "name one: --set template=chatml ("),
      (["-e", call], #"name one: template = "chatml" (alpaca"#),
    ] {
      let outcome = try Program.run(["--quiet"] + words, in: directory)
      #expect(outcome.code == 1 && outcome.errors.contains(text), "\(words): \(outcome)")
    }
    for (flag, text) in [
      ("--template=chatml", "'--template' is no flag but a parameter of the recipe: --set template=VALUE"),
      ("--max-length", "--set max_length=VALUE"), ("--dat", #"did you mean "--data"?"#),
      ("--sed", #"did you mean "--seed"?"#),
    ] {
      let outcome = try Program.run(train + [flag], in: directory)
      #expect(outcome.code == 2 && outcome.errors.contains(text), "\(flag): \(outcome)")
    }
  }

  @Test func wrongWordsStopIt() throws {
    for (words, text) in [
      (["chat"], "the model is missing"), (["chat", "tiny", "--temprature=1"], #"did you mean "--temperature"?"#),
      (["chat", "tiny", "--top-p", "2"], "--top-p needs a number from 1e-06 to 1"),
      (["chat", "tiny", "--set", "a=1"], "--set is for recipes"), (["list", "x"], "nobody reads 'x'"),
    ] {
      let outcome = try Program.run(words)
      #expect(outcome.code == 2 && outcome.errors.contains(text), "\(words): \(outcome)")
    }
  }
}
