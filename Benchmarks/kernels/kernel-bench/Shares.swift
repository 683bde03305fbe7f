import Quantization
import Tensors

extension Products {
  /// The speed of each format of GGUF as a share of that of NF4. Calls come in turns and the median of their ratios is
  /// told, because other programs change the pace of a machine by more than formats differ.
  func runShares() throws {
    for precision in [DType.bf16, .f32] {
      for rows in [1, 4, 16, 128, 512] {
        for transposed in [false, true] { try shares(rows, 4096, 11008, transposed, precision) }
      }
    }
  }

  private func shares(_ rows: Int, _ out: Int, _ columns: Int, _ transposed: Bool, _ precision: DType) throws {
    func name(_ format: GGMLType) -> String {
      "share \(precision.name) \(rows)\(transposed ? " dX" : "") \(format.name)"
    }
    let wanted = Self.formats.filter { bench.wants(name($0)) }
    guard !wanted.isEmpty else { return }
    let base = try FourBit.quantize(try bench.tensor([out, columns]), kind: .nf4, double: true, name: "w")
    let x = try bench.tensor([rows, transposed ? out : columns], precision)
    let y = try bench.tensor([rows, transposed ? columns : out], precision)
    for format in wanted {
      let weight = try blockWeight(format, out, columns)
      try bench.share(name(format), unit: "of NF4") {
        try bench.backend.blockMatmul(
          x, weight, transposed: transposed, alpha: 1, beta: 0, into: y, precision: precision)
      } of: {
        try bench.backend.quantizedMatmul(
          x, base, transposed: transposed, alpha: 1, beta: 0, into: y, precision: precision)
      }
    }
  }
}
