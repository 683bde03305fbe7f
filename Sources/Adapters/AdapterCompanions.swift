import Formats
import Models

/// What lies beside a saved adapter for its readers: the model's tokenizer with its chat templates, or that which
/// the adapters were trained under, and a card.
///
/// The card's last line has a checksum of each of these files. One that is not there as that line says, or that it does
/// not name, is somebody else's: it stays as it is, and none is written in its place. Beside somebody else's card a
/// file of its own has that line.
struct AdapterCompanions: Sendable {
  static let cardName = "README.md"
  /// Has the line where the card is somebody else's.
  static let listName = ".qlora-files"
  private static let begin = "\n<!-- Written by qlora with the adapter; the next save replaces what is unchanged: "
  private static let end = " -->\n"

  private let folder: String
  /// Those in the folder that an earlier save wrote and nobody changed since.
  let own: Set<String>

  /// Looks at what lies in a folder; it need not be there.
  init(in folder: String) {
    self.folder = folder
    var own: Set<String> = []
    for place in [Self.cardName, Self.listName] {
      guard let card = try? Self.text("\(folder)/\(place)"), let list = Self.split(card)?.list else { continue }
      if place == Self.listName { own.insert(place) }
      for entry in list.split(separator: ", ") {
        guard let blank = entry.lastIndex(of: " ") else { continue }
        let (name, sum) = (String(entry[..<blank]), entry[entry.index(after: blank)...])
        if Self.isOne(name), let found = try? Self.checksum("\(folder)/\(name)"), found == sum { own.insert(name) }
      }
    }
    self.own = own
  }

  /// Writes them into a folder that holds no other such files.
  /// - Returns: names of those that are not there because somebody else's, which says something else, stays in its
  ///   place.
  /// - Throws: `FormatError`, `TokenizerError`, `AdapterError` as the configuration does.
  func write(_ model: LanguageModel, into stage: String) throws -> [String] {
    try ModelFolder.writeTokenizer(of: model, into: stage)
    if let template = model.chatTemplateInUse { try ModelFolder.write(chatTemplate: template, into: stage) }
    var (staying, listed): ([String], [String]) = ([], [])
    let names = try FileSystem.list(stage, with: [FileName.templateFolder]).filter(ModelFolder.isOfTokenizer)
    for name in names.sorted() {
      let sum = try Self.checksum("\(stage)/\(name)")
      if isForeign(name) {
        if (try? Self.checksum("\(folder)/\(name)")) != sum { staying.append(name) }
        try FileSystem.remove("\(stage)/\(name)")
      } else {
        listed.append("\(name) \(sum)")
      }
    }
    guard !isForeign(Self.cardName) else {
      try AtomicFile.write("\(stage)/\(Self.listName)", Self.begin + listed.joined(separator: ", ") + Self.end)
      return staying + [Self.cardName]
    }
    let text = AdapterCard(model, name: FileSystem.baseName(FileSystem.absolute(folder) ?? folder)).text
    let list = (["\(Self.cardName) \(Self.sum(text))"] + listed).joined(separator: ", ")
    try AtomicFile.write("\(stage)/\(Self.cardName)", text + Self.begin + list + Self.end)
    return staying
  }

  private static func isOne(_ name: String) -> Bool { name == cardName || ModelFolder.isOfTokenizer(name) }
  private func isForeign(_ name: String) -> Bool { FileSystem.exists("\(folder)/\(name)") && !own.contains(name) }

  private static func text(_ path: String) throws -> String {
    try MappedFile(path: path).withBytes { String(decoding: $0, as: UTF8.self) }
  }

  /// A card's text and the list behind it; nil where it has none.
  private static func split(_ card: String) -> (text: Substring, list: Substring)? {
    guard card.hasSuffix(end), let start = card.ranges(of: begin).last else { return nil }
    return (card[..<start.lowerBound], card[start.upperBound...].dropLast(end.count))
  }

  /// Of a card without its last line, of other files whole; 64 bits tell whether somebody changed one.
  private static func checksum(_ path: String) throws -> String {
    if FileSystem.baseName(path) == cardName {
      let card = try text(path)
      return split(card).map { sum(String($0.text)) } ?? sum(card)
    }
    return try MappedFile(path: path).withBytes { String(SHA256.hash($0).prefix(16)) }
  }

  private static func sum(_ text: String) -> String { String(SHA256.hash(of: text).prefix(16)) }
}
