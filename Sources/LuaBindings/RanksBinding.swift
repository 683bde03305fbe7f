import CPUBackend
import Formats
import Glibc
import LuaRuntime
import Ranks
import Tensors
import Training

extension GradientSum: LuaObject {
  package static var luaClassName: String { "GradientSum" }
}

extension Engine {
  /// Joins the processes that a launcher started with this one: all take the lowest of their instruction sets, and
  /// those of a host share out its processors.
  /// - Returns: this process alone without a launcher.
  /// - Throws: `RankError` where they cannot reach each other; `InstructionSetError`.
  package static func join(_ launcher: Launcher?) throws -> Ranks {
    guard let launcher else { return .alone }
    let ranks = try Ranks(launcher)
    defer { Warnings.areTold = ranks.isFirst }
    guard ranks.isConnected else { return ranks }
    ranks.isInterrupted = { LuaState.isStopping }
    let sets = try ranks.gather([UInt8(try InstructionSet.requested().rawValue)], at: "instruction set")
    if let lowest = sets.compactMap(\.first).min().flatMap({ InstructionSet(rawValue: Int($0)) }) {
      // The environment is where the choice is read, once.
      setenv("QLORA_ISA", lowest.name, 1)
    }
    if let warning = try ranks.place()?.warning { Warnings.show("qlora-run: " + warning) }
    return ranks
  }

  /// Tells a user whose processes all did the same: the end of a program that shared nothing.
  package func tellOfIdleRanks() {
    guard ranks.size > 1, ranks.isFirst, !sharesWork, !options.plan else { return }
    Warnings.show(
      "qlora-run: each of the \(ranks.size) ranks did the whole program for itself; qlora.train, qlora.eval.perplexity "
        + "and qlora.sweep share their work, a loop of one's own with qlora.native.gradient_sum")
  }

  /// Runs what writes results on the first rank alone; the others wait until they are there.
  func byFirst(_ call: Call, _ write: () throws -> Void) throws {
    if team.isFirst { try write() }
    _ = try team.gather([], at: call.function)
  }

  /// Steps that processes share.
  var gradientSumClass: NativeClass {
    func sum(_ call: Call) throws -> GradientSum { try call.receiver(as: GradientSum.self) }
    return NativeClass(
      "GradientSum", "Sums the gradients of a step over its parts and over all processes, in a fixed shape.",
      properties: [
        NativeProperty("parts", "integer", "runs of micro-batches, which decide the bits") { _, object in
          .integer((object as? GradientSum)?.parts ?? 1)
        }
      ],
      methods: [
        NativeFunction(
          "begin", "Begins a step; returns what this process computes: the { first, last } micro-batch of each part.",
          [Parameter("micro_batches", .count, "of the whole step")], returns: "integer[][]",
          errors: "for fewer micro-batches than parts"
        ) { call in
          let ranges = try sum(call).begin(try call.int("micro_batches"))
          return [
            .table(
              call.state.list(
                ranges.map { .table(call.state.list([.integer($0.lowerBound + 1), .integer($0.upperBound)])) }))
          ]
        },
        NativeFunction(
          "add", "Takes the gradients of a part after its last backward pass.",
          [Parameter("loss", .number, "sum of the part's losses")], errors: "for more parts than begin gave"
        ) { call in
          try sum(call).add(loss: try call.double("loss"))
          return []
        },
        NativeFunction(
          "finish",
          "Joins the parts of all processes; every trained tensor then has the gradient of the step. "
            + "Returns its loss, and whether any process was told to stop.",
          [Parameter("stop", .boolean, default: "false", "whether this one was")], returns: "number, boolean",
          errors: "when another process ends, or does something else"
        ) { call in
          let (loss, isStopping) = try sum(call).finish(isStopping: call["stop"].asBool ?? false)
          return [.number(loss), .bool(isStopping)]
        },
      ])
  }

  var ranksModule: NativeModule {
    NativeModule(
      "Processes that work together.",
      [
        NativeFunction(
          "ranks",
          "The processes that a launcher such as mpirun started: rank from 0, size, host, and "
            + "whether they are connected.",
          returns: "table", example: "assert(qlora.ranks().size == 1)"
        ) { call in
          let table = call.state.newTable()
          table["rank"] = .integer(self.team.rank)
          table["size"] = .integer(self.team.size)
          table["host"] = .string(self.team.host)
          table["connected"] = .bool(self.team.isConnected)
          return [.table(table)]
        },
        NativeFunction(
          "apart", "Lets each process work alone, or together again; returns its rank and how many there are.",
          [Parameter("apart", .boolean, "whether alone")], returns: "integer, integer",
          example: "assert(select(2, qlora.native.apart(false)) == 1)"
        ) { call in
          self.sharesWork = true
          self.team = call["apart"].asBool == true ? .alone : self.ranks
          return [.integer(self.ranks.rank), .integer(self.ranks.size)]
        },
        NativeFunction(
          "gather", "The texts of all processes, in the order of their ranks; all must come to the same place.",
          [
            Parameter("place", .string, "names the place, for errors"),
            Parameter("text", .bytes, "any bytes"),
          ], returns: "string[]", errors: "when a process comes to another place",
          example: "assert(qlora.native.gather('here', 'mine')[1] == 'mine')"
        ) { call in
          self.sharesWork = true
          let texts = try self.team.gather(try call.bytes("text"), at: try call.string("place"))
          return [.table(call.state.list(texts.map { .bytes($0) }))]
        },
        NativeFunction(
          "gradient_sum", "Sums the gradients of each step of a loop.",
          [
            Parameter("parameters", .table, "list of tensors, from model:trainable()"),
            Parameter(
              "options",
              .options([
                Parameter("parts", .whole(1...65536), optional: true, "runs of micro-batches; default one a process")
              ]), optional: true, "the options below"),
          ], returns: "GradientSum", errors: "when the processes do not divide the parts"
        ) { call in
          self.sharesWork = true
          let (parts, tensors) = (call.options("options").int("parts"), try self.tensors(call))
          // Every stage computes all parts.
          let ranks = self.isOfStage(tensors) ? Ranks.alone : self.team
          return [.object(try GradientSum(tensors, parts: parts, ranks: ranks))]
        },
        NativeFunction(
          "hash", "SHA-256 of the bytes of tensors, as hexadecimal digits.",
          [Parameter("parameters", .table, "list of tensors")], returns: "string",
          example: "assert(#qlora.native.hash { qlora.ones(2) } == 64)"
        ) { call in
          var hash = SHA256()
          for tensor in try self.tensors(call) { try tensor.contiguous().withHostBytes { hash.update($0) } }
          return [.string(hash.finish())]
        },
      ])
  }
}
