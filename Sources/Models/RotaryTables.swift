import Glibc
import Tensors

/// Cosines and sines of one rope, f32 [rows, rotated width / 2].
struct RotaryTables {
  var cosine: Tensor
  var sine: Tensor
}

/// The rotary tables of a model, one for each of its ropes, grown on demand.
///
/// Their rows are the positions of a sequence. Where a rope's frequencies depend on the length of the sequence
/// (`Rope.lengthClass`), a section of rows follows for each class of lengths, so that each sequence of a packed batch
/// has the frequencies that it has alone. All tables have the same sections.
final class RotaryEmbedding {
  private struct Section {
    let lengthClass: Int
    var rows: Int
  }

  private let ropes: [Rope]
  private let headDimension: Int
  private let backend: any Backend
  private var sections: [Section] = []
  private(set) var tables: [RotaryTables]

  init(_ spec: DecoderSpec, backend: any Backend) throws {
    self.backend = backend
    (ropes, headDimension) = (spec.ropes, spec.headDimension)
    tables = try ropes.map { [headDimension] rope in
      func none() throws -> Tensor {
        try Tensor(empty: [0, rope.width(headDimension: headDimension) / 2], on: backend)
      }
      return RotaryTables(cosine: try none(), sine: try none())
    }
  }

  /// Sequences of one class have the same frequencies in every rope.
  func lengthClass(_ length: Int) -> Int { ropes.map { $0.lengthClass(length) }.max() ?? 0 }

  /// Makes the tables cover sequences of these lengths.
  /// - Returns: the row of each sequence's first position.
  func reserve(_ lengths: [Int]) throws -> [Int] {
    let classes = lengths.map(lengthClass)
    var needed: [Int: Int] = [:]
    for (kind, length) in zip(classes, lengths) { needed[kind] = max(needed[kind] ?? 0, length) }
    if !needed.allSatisfy({ kind, rows in sections.contains { $0.lengthClass == kind && $0.rows >= rows } }) {
      try build(grown(needed))
    }
    var starts: [Int: Int] = [:], row = 0
    for section in sections {
      starts[section.lengthClass] = row
      row += section.rows
    }
    return classes.map { starts[$0] ?? 0 }
  }

  /// The sections that are needed, with room to grow. Two sections stay, so that short and long sequences may take
  /// turns; of dynamic scaling, which has one for each length, no more are kept than a pass needs.
  private func grown(_ needed: [Int: Int]) -> [Section] {
    let old = Dictionary(uniqueKeysWithValues: sections.map { ($0.lengthClass, $0.rows) })
    let kept = Set(old.keys).union(needed.keys).count <= 2 ? old : old.filter { needed[$0.key] != nil }
    return needed.merging(kept) { max($0, $1) }.sorted { $0.key < $1.key }.map { kind, rows in
      let before = old[kind] ?? 0
      return Section(lengthClass: kind, rows: rows <= before ? before : max(rows, 2 * before, 64))
    }
  }

  private func build(_ wanted: [Section]) throws {
    let count = wanted.reduce(0) { $0 + $1.rows }
    var made: [RotaryTables] = []
    for rope in ropes {
      let half = rope.width(headDimension: headDimension) / 2
      var cosines: [Float] = []
      var sines: [Float] = []
      cosines.reserveCapacity(count * half)
      sines.reserveCapacity(count * half)
      let scale = rope.attentionScale
      for section in wanted {
        let frequencies = rope.frequencies(headDimension: headDimension, length: section.lengthClass)
        for position in 0..<section.rows {
          for frequency in frequencies {
            let angle = Double(Float(position) * frequency)
            cosines.append(Float(cos(angle)) * scale)
            sines.append(Float(sin(angle)) * scale)
          }
        }
      }
      made.append(
        RotaryTables(
          cosine: try Tensor(cosines, shape: [count, half], category: .workspace, on: backend),
          sine: try Tensor(sines, shape: [count, half], category: .workspace, on: backend)))
    }
    (tables, sections) = (made, wanted)
  }
}
