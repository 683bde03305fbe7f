import Formats
import Foundation

@testable import Tokenizers

/// Expected ids and texts made by Tests/Fixtures/tokenizers/make_golden.py.
struct Golden {
  struct Case {
    let text: String
    let ids: [Int32]?
    let bare: [Int32]
    let literal: [Int32]?
    let decoded: String?
    let skipped: String?
  }
  struct Loose {
    let ids: [Int32]
    let decoded: String
    let skipped: String
  }
  let cases: [Case]
  let loose: [Loose]

  static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path
  static let folder = package + "/Tests/Fixtures/tokenizers/"

  init(_ name: String) throws {
    let json = try JSON.read(path: Golden.folder + name + ".golden.json")
    func ids(_ value: JSON?) -> [Int32]? { value?.array?.map { Int32($0.int!) } }
    cases = json["cases"]!.array!.map {
      Case(
        text: $0["text"]!.string!, ids: ids($0["ids"]), bare: ids($0["bare"])!, literal: ids($0["literal"]),
        decoded: $0["decoded"]?.string, skipped: $0["skipped"]?.string)
    }
    loose = (json["loose"]?.array ?? []).map {
      Loose(ids: ids($0["ids"])!, decoded: $0["decoded"]!.string!, skipped: $0["skipped"]!.string!)
    }
  }

  /// The differences between a tokenizer and the expectation; comparisons are by bytes.
  func differences(_ tokenizer: Tokenizer) throws -> [String] {
    var found: [String] = []
    func compare(_ what: String, _ actual: String, _ expected: String?) {
      guard let expected, !actual.utf8.elementsEqual(expected.utf8) else { return }
      found.append("\(what): \(actual.debugDescription) expected \(expected.debugDescription)")
    }
    func compare(_ what: String, _ actual: [Int32], _ expected: [Int32]?) {
      guard let expected, actual != expected else { return }
      found.append("\(what): \(actual) expected \(expected)")
    }
    for test in cases {
      let name = test.text.debugDescription
      compare(
        "encode \(name)", try tokenizer.encode(test.text), test.ids.map { withoutSecondBOS($0, bare: test.bare) })
      compare("encode bare \(name)", try tokenizer.encode(test.text, special: false), test.bare)
      if let literal = test.literal {
        compare("literal \(name)", try tokenizer.encode(test.text, special: false, literal: true), literal)
      }
      if let ids = test.ids {
        compare("decode \(name)", try tokenizer.decode(ids), test.decoded)
        compare("decode, skipping \(name)", try tokenizer.decode(ids, skipSpecial: true), test.skipped)
      }
    }
    for test in loose {
      compare("decode \(test.ids)", try tokenizer.decode(test.ids), test.decoded)
      compare("decode, skipping \(test.ids)", try tokenizer.decode(test.ids, skipSpecial: true), test.skipped)
    }
    return found
  }
}

/// The peers put BOS before a text that begins with it; we do not. `bare` are the ids without what stands around a
/// text.
func withoutSecondBOS(_ ids: [Int32], bare: [Int32]) -> [Int32] {
  let isRepeated = ids.first == bare.first && ids.dropFirst().starts(with: bare)
  return isRepeated && !bare.isEmpty ? Array(ids.dropFirst()) : ids
}

func fixture(_ name: String) throws -> Tokenizer {
  let path = Golden.folder + name + ".json"
  return try Tokenizer(description: try JSON.read(path: path), settings: TokenizerSettings(), file: path)
}

/// A fresh folder, removed after the body.
func withFolder<R>(_ body: (String) throws -> R) throws -> R {
  let path = NSTemporaryDirectory() + "tokenizers-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(path)
}
