/// The closest of some names, when it is close enough to be meant; see `nearestNames`.
package func nearestName(to name: String, among names: [String]) -> String? {
  nearestNames(to: name, among: names, count: 1).first
}

/// The names that may be meant by a misspelt one, nearest first, equally near ones in order; the case of letters does
/// not count. Near are two edits, one in a word of less than four letters, three in one of nine or more; and a name
/// that begins or ends with the other one, whatever else it has, where that has three letters or more.
package func nearestNames(to name: String, among names: [String], count: Int) -> [String] {
  let word = name.lowercased()
  let length = word.unicodeScalars.count
  let most = length < 4 ? 1 : length < 9 ? 2 : 3
  let near = names.compactMap { candidate -> (name: String, distance: Int)? in
    let other = candidate.lowercased()
    let distance = editDistance(word, other)
    let (short, long) = length < other.unicodeScalars.count ? (word, other) : (other, word)
    let isPart = short.unicodeScalars.count > 2 && (long.hasPrefix(short) || long.hasSuffix(short))
    return !word.isEmpty && (distance <= most || isPart) ? (candidate, distance) : nil
  }
  return near.sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(count).map(\.name)
}

/// What an error says of the name that may be meant, behind the wrong one; nothing for nil. `kind` stands in front of
/// it.
package func didYouMean(_ name: String?, _ kind: String = "") -> String {
  name.map { " (did you mean \(kind)\"\($0)\"?)" } ?? ""
}

/// Edits with exchange of neighbours (optimal string alignment).
private func editDistance(_ a: String, _ b: String) -> Int {
  let (x, y) = (Array(a.unicodeScalars.prefix(64)), Array(b.unicodeScalars.prefix(64)))
  var rows = [Array(0...y.count)]
  for i in 0..<x.count {
    var row = [i + 1]
    for j in 0..<y.count {
      var cost = min(rows[i][j] + (x[i] == y[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
      if i > 0, j > 0, x[i] == y[j - 1], x[i - 1] == y[j] { cost = min(cost, rows[i - 1][j - 1] + 1) }
      row.append(cost)
    }
    rows.append(row)
  }
  return rows[x.count][y.count]
}
