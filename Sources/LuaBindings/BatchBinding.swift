import LuaRuntime
import Models

/// A packed batch with what the training loop knows about it.
package final class BatchObject: LuaObject {
  package static var luaClassName: String { "Batch" }
  let part: MicroBatch
  /// The samples of its sequences, numbered from 1, and what words an error about one of them.
  private let numbers: [Int]
  private let explain: LuaFunction?
  var batch: Batch { part.batch }

  init(_ part: MicroBatch, numbers: [Int] = [], explain: LuaFunction? = nil) {
    self.part = part
    self.numbers = numbers
    self.explain = explain
  }

  /// What the data set says of the first sample that is longer than a model reads; nil for a batch of no data set.
  fileprivate func tooLong(limit: Int) throws -> String? {
    for (number, (start, end)) in zip(numbers, zip(batch.segments, batch.segments.dropFirst()))
    where end - start > limit {
      return try explain?.call([.integer(number), .integer(Int(end - start)), .integer(limit)]).first?.asString
    }
    return nil
  }
}

extension Samples: LuaObject {
  package static var luaClassName: String { "Samples" }
}

extension Engine {
  /// A sequence of a batch.
  static let batchRowFields = [
    Parameter("ids", .table, "token ids"),
    Parameter("labels", .table, optional: true, "targets, -100 is not trained; default the ids"),
  ]

  var batchClass: NativeClass {
    func number(_ name: String, _ doc: String, _ get: @escaping (Batch) -> Int) -> NativeProperty {
      NativeProperty(name, "integer", doc) { _, object in
        .integer((object as? BatchObject).map { get($0.batch) } ?? 0)
      }
    }
    return NativeClass(
      "Batch", "Sequences laid end to end; each attends to itself only.",
      properties: [
        number("rows", "number of sequences") { $0.segments.count - 1 },
        number("length", "tokens of the longest sequence") { $0.longestSequence },
        number("tokens", "tokens in all") { $0.tokenCount },
        number("trained", "targets that count in the loss") { $0.trainedTokenCount },
      ], methods: [])
  }

  /// What is computed of a batch; an error about a sample that is too long names it.
  func compute<R>(_ object: BatchObject, _ call: Call, _ body: (MicroBatch) throws -> R) throws -> R {
    try compute([object], call) { try body(object.part) }
  }

  /// What is computed of batches together.
  func compute<R>(_ objects: [BatchObject], _ call: Call, _ body: () throws -> R) throws -> R {
    do { return try body() } catch ModelError.tooLong(let tokens, let limit) {
      guard let text = try objects.lazy.compactMap({ try $0.tooLong(limit: limit) }).first else {
        throw ModelError.tooLong(tokens: tokens, limit: limit)
      }
      throw BindingError.invalid(function: call.function, message: text)
    }
  }

  func makeBatch(_ call: Call) throws -> BatchObject {
    let rows = try call.table("rows").elements.map { value -> (ids: [Int32], labels: [Int32]?) in
      guard let table = value.asTable else {
        throw call.invalid("each row is a table { ids = {…} }, got \(value.typeName)")
      }
      let row = try call.options(table, Self.batchRowFields, of: "batch: a row")
      let ids = try self.ids32(row["ids"], "ids", call)
      let labels = try row["labels"].isNil ? nil : self.ids32(row["labels"], "labels", call)
      guard (labels ?? ids).count == ids.count else { throw call.invalid("labels and ids have different lengths") }
      return (ids, labels)
    }
    let options = call.options("options")
    guard options["micro"].isNil || options.int("step") != nil else {
      throw call.invalid("micro counts the batches of a step; give step too")
    }
    let masks = try options.int("step").map { try MaskNumber(step: $0, microBatch: options.int("micro") ?? 0) }
    return BatchObject(MicroBatch(try Batch(rows), denominator: options.int("denominator"), masks: masks))
  }

  /// Token ids or labels of a list.
  private func ids32(_ value: LuaValue, _ what: String, _ call: Call) throws -> [Int32] {
    guard let list = value.asTable?.integers() else { throw call.invalid("\(what) must be integers") }
    return try list.map { id in
      guard id >= Int(NextToken.untrained), id < 1 << 24 else { throw call.invalid("a token id is out of range") }
      return Int32(id)
    }
  }

  // MARK: Samples

  var samplesClass: NativeClass {
    func samples(_ call: Call) throws -> Samples { try call.receiver(as: Samples.self) }
    func numbers(_ call: Call) throws -> [Int] {
      guard let list = try call.table("numbers").integers() else { throw call.invalid("numbers must be integers") }
      return try list.map { try self.sampleIndex($0, samples(call), call) }
    }
    let which = Parameter("numbers", .table, "list of sample numbers, from 1")
    let number = Parameter("number", .count, "of the sample, from 1")
    let explain = Parameter(
      "explain", .function, optional: true, "words an error: explain(number, tokens, limit) for a sample too long")
    return NativeClass(
      "Samples",
      "Tokenized samples, packed: four bytes a token, and the ranges that are trained. Recipes use data sets.",
      properties: [
        NativeProperty("nbytes", "integer", "bytes of the token ids") { _, object in
          .integer((object as? Samples)?.byteCount ?? 0)
        }
      ],
      methods: [
        NativeFunction(
          "append",
          "Adds a sample and returns its trained targets; one without any is not added and gives 0. The first token is "
            + "no target, since nothing predicts it.",
          [
            Parameter("ids", .table, "token ids"),
            Parameter("trained", .table, "list of { first, last } positions in ids, from 1, ascending and apart"),
            Parameter("dropped", .amount, default: "0", "tokens that were cut off"),
          ], returns: "integer"
        ) { call in
          let ids = try self.ids32(call["ids"], "ids", call)
          let trained = try call.table("trained").elements.map { try self.trainedRange($0, ids.count, call) }
          return [.integer(try samples(call).append(ids, trained: trained, dropped: call["dropped"].asInt ?? 0))]
        },
        NativeFunction(
          "row", "The token ids of a sample and its labels, -100 where nothing is trained.", [number],
          returns: "integer[], integer[]"
        ) { call in
          let index = try self.sampleIndex(try call.int("number"), samples(call), call)
          return try [samples(call).ids(index), samples(call).labels(index)].map {
            .table(call.state.list($0.map { .integer(Int($0)) }))
          }
        },
        NativeFunction("trained", "The trained targets of a sample.", [number], returns: "integer") { call in
          let samples = try samples(call)
          return [.integer(try samples.trainedTargets(try self.sampleIndex(try call.int("number"), samples, call)))]
        },
        NativeFunction("length", "The tokens of a sample.", [number], returns: "integer") { call in
          let samples = try samples(call)
          return [.integer(try samples.length(try self.sampleIndex(try call.int("number"), samples, call)))]
        },
        NativeFunction(
          "outside",
          "The number of the first sample with a token that a vocabulary of `size` tokens lacks, and its id.",
          [Parameter("size", .count, "tokens of the vocabulary")], returns: "integer|nil, integer"
        ) { call in
          let samples = try call.receiver(as: Samples.self)
          guard let found = try samples.outside(vocabulary: try call.int("size")) else { return [.nil] }
          return [.integer(found.number + 1), .integer(found.id)]
        },
        NativeFunction("lengths", "The tokens of each sample.", returns: "integer[]") { call in
          [.table(call.state.list(try samples(call).lengths.map { .integer($0) }))]
        },
        NativeFunction("stats", "Of all samples: { tokens, trained, longest, truncated }.", returns: "table") { call in
          let (sum, table) = (try samples(call).statistics, call.state.newTable())
          table["tokens"] = .integer(sum.tokens)
          table["trained"] = .integer(sum.trained)
          table["longest"] = .integer(sum.longest)
          table["truncated"] = .integer(sum.truncated)
          return [.table(table)]
        },
        NativeFunction("select", "The samples of a list of numbers, in its order.", [which], returns: "Samples") {
          call in
          [.object(try samples(call).selecting(try numbers(call)))]
        },
        NativeFunction(
          "windows", "All tokens as one stream cut into samples of a length, every token trained once.",
          [
            Parameter("length", .whole(2...ParameterType.counts.upperBound), "tokens of a sample"),
            Parameter(
              "stride", .count, optional: true,
              "tokens from the start of a sample to that of the next, what it repeats is context; default `length`"),
          ], returns: "Samples"
        ) { call in
          [.object(try samples(call).windows(try call.int("length"), stride: call["stride"].asInt))]
        },
        NativeFunction("batch", "The samples of a list of numbers as one batch.", [which, explain], returns: "Batch") {
          call in
          let chosen = try numbers(call)
          let part = MicroBatch(try samples(call).batch(chosen))
          return [.object(BatchObject(part, numbers: chosen.map { $0 + 1 }, explain: call["explain"].asFunction))]
        },
        NativeFunction(
          "micro_batches",
          "A step over the samples of a list of numbers, in parts whose losses add up to the mean over all its trained "
            + "targets.",
          [
            which, Parameter("size", .count, "most samples of a part"),
            Parameter("step", .whole(MaskNumber.steps), "keys the dropout masks, with the number of the part"),
            explain,
          ], returns: "Batch[]"
        ) { call in
          let (chosen, size) = (try numbers(call), try call.int("size"))
          let parts = try samples(call).microBatches(chosen, size: size, step: try call.int("step"))
          var rest = chosen.map { $0 + 1 }[...]
          let objects = parts.map { part in
            let own = Array(rest.prefix(size))
            rest = rest.dropFirst(own.count)
            return LuaValue.object(BatchObject(part, numbers: own, explain: call["explain"].asFunction))
          }
          return [.table(call.state.list(objects))]
        },
      ],
      metamethods: [
        NativeFunction("__len", "How many there are.", returns: "integer") { call in
          guard case .object(let object) = call.arguments.first ?? .nil, let samples = object as? Samples else {
            throw BindingError.badSelf(
              method: "__len", className: "Samples", got: call.arguments.first?.typeName ?? "no value")
          }
          return [.integer(samples.count)]
        }
      ])
  }

  private func sampleIndex(_ number: Int, _ samples: Samples, _ call: Call) throws -> Int {
    guard number >= 1, number <= samples.count else {
      throw call.invalid("there is no sample \(number); there are \(samples.count), counted from 1")
    }
    return number - 1
  }

  /// Positions first...last from 1, as much of them as lies in the sample.
  private func trainedRange(_ value: LuaValue, _ count: Int, _ call: Call) throws -> Range<Int> {
    guard let pair = value.asTable, let first = pair[1].asInt, let last = pair[2].asInt, first >= 1 else {
      throw call.invalid("trained must be a list of { first, last }, positions from 1")
    }
    return min(first - 1, count)..<max(min(first - 1, count), min(last, count))
  }
}
