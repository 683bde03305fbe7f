import LuaRuntime
import Models

/// A packed batch with what the training loop knows about it.
public final class BatchObject: LuaObject {
  public static var luaClassName: String { "Batch" }
  let batch: Batch
  let denominator: Int?
  /// Keys the dropout masks; an internal counter of the model when nil.
  let dropoutStep: Int?

  init(_ batch: Batch, denominator: Int?, dropoutStep: Int?) {
    self.batch = batch
    self.denominator = denominator
    self.dropoutStep = dropoutStep
  }
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

  func makeBatch(_ call: Call) throws -> BatchObject {
    let rows = try call.table("rows").elements.map { value -> (ids: [Int32], labels: [Int32]?) in
      guard let table = value.asTable else {
        throw call.invalid("each row is a table { ids = {…} }, got \(value.typeName)")
      }
      let row = try call.options(table, Self.batchRowFields, of: "batch: a row")
      guard let ids = row["ids"].asTable?.integers() else { throw call.invalid("ids must be integers") }
      let labels = row["labels"].asTable?.integers()
      if labels == nil, !row["labels"].isNil { throw call.invalid("labels must be integers") }
      guard (labels ?? ids).count == ids.count else { throw call.invalid("labels and ids have different lengths") }
      guard (ids + (labels ?? [])).allSatisfy({ $0 >= -100 && $0 < 1 << 24 }) else {
        throw call.invalid("a token id is out of range")
      }
      return (ids.map { Int32($0) }, labels?.map { Int32($0) })
    }
    let options = call.options("options")
    if let denominator = options.int("denominator"), denominator < 1 {
      throw call.invalid("denominator is \(denominator), expected at least 1")
    }
    let step = options.int("step").map { ($0 &* 4096) &+ (options.int("micro") ?? 0) }
    return BatchObject(try Batch(rows), denominator: options.int("denominator"), dropoutStep: step)
  }
}
