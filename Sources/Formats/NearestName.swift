/// The closest of some names by edit distance, when it is close enough to be meant.
package func nearestName(to name: String, among names: [String]) -> String? {
  let best = names.map { ($0, editDistance(name, $0)) }.min { $0.1 < $1.1 }
  guard let (candidate, distance) = best, distance <= max(1, min(3, name.count / 2)) else { return nil }
  return candidate
}

/// Edits with exchange of neighbours (optimal string alignment).
private func editDistance(_ a: String, _ b: String) -> Int {
  let (x, y) = (Array(a.prefix(64).unicodeScalars), Array(b.prefix(64).unicodeScalars))
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
