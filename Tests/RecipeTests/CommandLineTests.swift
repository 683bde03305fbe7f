import Foundation
import Testing

@Suite struct CommandLineTests {
  private func run(recipe text: String, _ flags: [String] = [], seconds: Double = 120) throws -> Program.Outcome {
    let directory = try Program.temporaryDirectory()
    try text.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    return try Program.run(flags + ["recipe.lua"], in: directory, seconds: seconds)
  }

  @Test func errorsNameRecipeAndLine() throws {
    let cases: [(recipe: String, message: String)] = [
      ("\nerror 'boom'", "qlora-run: recipe.lua:2: boom"),
      ("local qlora = require 'qlora'\nqlora.zeros('x')", "recipe.lua:2: bad argument #1 to 'zeros'"),
      ("local x = 1\nprint(xx)", "recipe.lua:2: undeclared global 'xx'"),
      ("y = 1", "recipe.lua:1: assignment to undeclared global 'y'"),
      (
        "local q = require 'qlora'\nq.load('/nowhere', { qant = 'nf4' })",
        "recipe.lua:2: qlora.load: unknown option 'qant' (did you mean \"quant\"?)"
      ),
      ("local q = require 'qlora'\n\nq.load('/nowhere')", "recipe.lua:3: /nowhere: not a model"),
      ("local q = require 'qlora'\nq.tensor{{1,2},{3}}", "rows have different lengths"),
      ("local q = require 'qlora'\nq.ones(2,3):matmul(q.ones(2,3))", "inner dimensions differ"),
      ("local q = require 'qlora'\nlocal t = q.ones(2)\nt:free()\nprint(t:sum())", "bad self"),
    ]
    for (recipe, message) in cases {
      let outcome = try run(recipe: recipe)
      #expect(outcome.code == 1 && outcome.errors.contains(message), "\(recipe): \(outcome.errors)")
    }
  }

  @Test func exitCodesAndFlags() throws {
    #expect(try Program.run(["--version"]).output.hasPrefix("qlora-run "))
    #expect(try Program.run(["--help"]).output.contains("--plan"))
    #expect(try Program.run(["--list"]).output.contains("quickstart"))
    let wrong = try Program.run(["--plna"])
    #expect(wrong.code == 2 && wrong.errors.contains(#"did you mean "--plan""#))
    #expect(try Program.run(["-e", "print(6 * 7)"]).output == "42\n")
    #expect(try Program.run(["-"], input: "print(...)\nprint(#arg)").output == "\n0\n")
    #expect(try Program.run(["missing.lua"]).code != 0)
    #expect(try run(recipe: "local q = require 'qlora'\nq.native.exit(7)").code == 7)
    #expect(try run(recipe: "print(arg[1], ...)").output == "nil\n")
  }

  /// An error never ends with 0 but where it asks for that in silence, and is an interrupt only where one came.
  @Test(
    arguments: [
      ("error { exit_code = 7 }", 7), ("error { exit_code = 256 }", 1), ("error { exit_code = 0 }", 1),
      ("error { exit_code = -1 }", 1), ("error { exit_code = 512, silent = true }", 1),
      ("error { exit_code = 0, silent = true }", 0), ("require 'qlora.native'.exit(0)", 0), ("os.exit(0)", 0),
      ("error 'the download was interrupted'", 1), ("error('interrupted', 0)", 1),
    ] as [(String, Int32)])
  func errorsChooseAnExitCode(recipe: String, code: Int32) throws { #expect(try run(recipe: recipe).code == code) }

  /// Where a name stands for no set, or for one that this processor may lack.
  @Test func anInstructionSetThatCannotBeUsedEndsTheProgram() throws {
    let known = "known: baseline, avx2, avx512, avx512bf16, amx"
    let wrong = try Program.run(["-e", "print(1)"], environment: ["QLORA_ISA": "bogus"])
    #expect(wrong.code == 2 && wrong.output.isEmpty)
    #expect(wrong.errors == "qlora-run: QLORA_ISA is 'bogus', which names no instruction set; \(known)\n")
    for name in ["", "baseline", "avx512bf16", "amx"] {
      let outcome = try Program.run(["-e", "print(1)"], environment: ["QLORA_ISA": name])
      let isMissing = outcome.errors.contains("which this processor does not have; \(known); here: baseline")
      let mayBeMissing = ["avx512bf16", "amx"].contains(name)
      #expect(outcome.code == 0 && outcome.output == "1\n" || mayBeMissing && outcome.code == 2 && isMissing)
    }
  }

  /// A graph of a million operations, dropped as it is and after its gradient, and a shorter one in a coroutine.
  @Test(arguments: ["", "y:backward()"]) func aLongGraphIsReleased(middle: String) throws {
    let outcome = try run(
      recipe: """
        local qlora = require "qlora"
        local function work(count)
          local x, one = qlora.ones(1), qlora.ones(1)
          x.requires_grad = true
          local y = x
          for i = 1, count do y = y + one end
          \(middle)
          y = nil
          collectgarbage()
          return x.grad and x.grad:item()
        end
        print(work(1000000), coroutine.wrap(work)(50000))
        """, seconds: 500)
    #expect(outcome.code == 0 && outcome.output == (middle.isEmpty ? "nil\tnil\n" : "1.0\t1.0\n"), "\(outcome)")
  }

  @Test func flagsMayFollowTheRecipe() throws {
    let recipe = """
      local q = require 'qlora'
      local p = q.params { rank = 8 }
      print(p.rank, q.native.options.plan and "plan" or "run", ...)
      """
    let directory = try Program.temporaryDirectory()
    try recipe.write(to: directory.appendingPathComponent("recipe.lua"), atomically: true, encoding: .utf8)
    func output(_ arguments: [String]) throws -> String { try Program.run(arguments, in: directory).output }
    #expect(try output(["recipe.lua", "--set", "rank=4", "--plan", "word"]) == "4\tplan\tword\n")
    #expect(try output(["--plan", "recipe.lua", "--", "--set", "rank=4"]) == "8\tplan\t--set\trank=4\n")
    #expect(try output(["--", "recipe.lua", "--plan"]) == "8\trun\t--plan\n")
    let wrong = try Program.run(["recipe.lua", "--threads", "none"], in: directory)
    #expect(wrong.code == 2 && wrong.errors.contains("--threads needs an integer"))
    let alone = try Program.run(["--resume", "run"])
    #expect(alone.code == 2 && alone.errors.contains("--resume run has no recipe to go on with"), "\(alone.errors)")
  }

  /// A plan ends a recipe at its first step: what stands after it reads no parameter.
  @Test func planTakesParametersThatOnlyALaterLineReads() throws {
    let directory = try Program.temporaryDirectory()
    for name in ["merge.lua", "continue_training.lua", "export_gguf.lua"] {
      let plan = try Program.run([name, "--plan", "--set", "out=elsewhere"], in: directory)
      #expect(plan.code == 0 && plan.errors.contains("note: --plan ended before the recipe read p.out"), "\(plan)")
      let misspelt = try Program.run([name, "--plan", "--set", "uot=elsewhere"], in: directory)
      #expect(misspelt.code == 1 && misspelt.errors.contains("no parameter 'uot'"), "\(misspelt.errors)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test func shippedRecipesRunByName() throws {
    let directory = try Program.temporaryDirectory()
    for name in ["custom_loop.lua", "custom_loop", "selection/all_linear.lua"] {
      let outcome = try Program.run(["--smoke", name], in: directory)
      #expect(outcome.code == 0, "\(name): \(outcome.errors)")
    }
    try "print 'mine'".write(
      to: directory.appendingPathComponent("custom_loop.lua"), atomically: true, encoding: .utf8)
    #expect(try Program.run(["custom_loop.lua"], in: directory).output == "mine\n")
    let wrong = try Program.run(["custom_lop.lua"], in: directory)
    #expect(wrong.code == 2 && wrong.errors.contains(#"(did you mean the recipe "custom_loop"?)"#), "\(wrong.errors)")
  }

  @Test func hostileProgramsEndInErrors() throws {
    let programs = [
      "local function f() return f() + 1 end f()", "string.rep('x', 1 << 40)",
      "local t = setmetatable({}, {__index = function(t, k) return t[k] end}) print(t.x)",
      "local q = require 'qlora'\nq.zeros(1 << 40, 1 << 40)", "local q = require 'qlora'\nq.zeros(-1)",
      "local q = require 'qlora'\nq.rand(1 << 45)", "error(setmetatable({}, {__tostring = function() error('x') end}))",
      "local q = require 'qlora'\nq.ones(2):view(3)", "local q = require 'qlora'\nq.ones(2)[3] = 1",
      "coroutine.wrap(function() error('in a coroutine') end)()", "load('\\27Lua')()",
      "local q = require 'qlora'\nq.arange(0, 1, 0)", "local q = require 'qlora'\nq.new_model{ config = {} }",
    ]
    for program in programs {
      let outcome = try run(recipe: program)
      #expect(outcome.code == 1, "\(program): code \(outcome.code), \(outcome.errors)")
    }
  }

  @Test func pipedPromptInputPrintsResults() throws {
    let outcome = try Program.run(
      ["-i"],
      input: "1 + 1\n=2 * 3\nlocal_value = 5;\nlocal_value\nfor i = 1, 2 do\nprint(i)\nend\nerror('x')\nqlora.ones(2)\n"
    )
    for text in ["2\n", "6\n", "5\n", "1\n2\n", "[f32 2, 8 bytes]"] {
      #expect(outcome.output.contains(text), "\(outcome.output)")
    }
    #expect(outcome.errors.contains("x") && outcome.code == 0)
  }
}

@Suite struct LuaTests {
  @Test func thePureLuaTestsPassUnderTheProgram() throws {
    let outcome = try Program.run([Program.root.appendingPathComponent("Tests/LuaTests/run.lua").path])
    #expect(outcome.code == 0 && outcome.output.contains("passed, 0 failed"), "\(outcome.output)\(outcome.errors)")
  }
}

@Suite struct ShippedRecipeTests {
  static let names: [String] =
    ((try? FileManager.default.subpathsOfDirectory(atPath: Program.root.appendingPathComponent("recipes").path)) ?? [])
    .filter { $0.hasSuffix(".lua") }.sorted()

  @Test(arguments: names)
  func runsUnderSmoke(name: String) throws {
    let path = Program.root.appendingPathComponent("recipes/\(name)").path
    let outcome = try Program.run(["--smoke", path])
    #expect(outcome.code == 0, "\(outcome.errors)")
  }

  @Test func plansSixtyFiveBillionWithoutWeights() throws {
    let path = Program.root.appendingPathComponent("recipes/llama65b.lua").path
    let fits = try Program.run(["--plan", path], seconds: 20)
    #expect(fits.code == 0 && fits.output.contains("799,539,200"), "\(fits.output) \(fits.errors)")
    #expect(try Program.run(["--plan", "--memory", "12GB", path]).code == 3)
  }

  @Test func everyRecipeIsFoundListedAndCopied() throws {
    #expect(Self.names.count >= 22)
    #expect(Self.names.filter { $0.hasPrefix("selection/") }.count >= 6)
    let listed = try Program.run(["--list"]).output
    for name in Self.names { #expect(listed.contains("\(name.dropLast(4))  ")) }
    let directory = try Program.temporaryDirectory()
    #expect(try Program.run(["--copy", "selection/rank_by_depth"], in: directory).code == 0)
    #expect(FileManager.default.fileExists(atPath: directory.appendingPathComponent("rank_by_depth.lua").path))
    let wrong = try Program.run(["--copy", "selection/rank_by_deth"], in: directory)
    #expect(wrong.code == 2 && wrong.errors.contains(#"did you mean "selection/rank_by_depth"?"#))
  }

  /// The selection recipes train on the tiny model for what they say: the loss falls below 1.
  @Test(arguments: names.filter { $0.hasPrefix("selection/") })
  func selectionRecipesTrain(name: String) throws {
    let outcome = try Program.run([Program.root.appendingPathComponent("recipes/\(name)").path])
    #expect(outcome.code == 0, "\(outcome.errors)")
    let last = outcome.output.firstMatch(of: /loss [0-9.]+ -> ([0-9.]+)/).flatMap { Double($0.1) }
    #expect((last ?? 10) < 1, "\(outcome.output)")
  }
}
