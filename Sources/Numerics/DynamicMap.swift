/// The 256-entry dynamic maps of bitsandbytes' 8-bit blockwise quantization (Dettmers et al. 2022).
public enum DynamicMap {
  /// 127 negatives, zero at 127, 128 positives.
  package static let signed = make(isSigned: true)
  /// Zero at 0, then 255 positives.
  package static let unsigned = make(isSigned: false)
  /// Elements of optimizer state that share a maximum (bitsandbytes). Constants of kernels are public: the compiler
  /// inlines nothing that is `package` into another module, and a call per vector cost 8-bit updates 23 %.
  @inlinable public static var stateBlockSize: Int { 256 }

  /// For i = 0..6 the interval [0.1, 1] is split in 2^i parts (twice as many unsigned), whose midpoints are scaled by
  /// 10^(i - 6); the order of operations is torch.linspace's, which the golden hashes pin down.
  private static func make(isSigned: Bool) -> [Float] {
    var values: [Float] = [0, 1]
    let start = Float(0.1)
    for i in 0..<7 {
      let parts = 1 << (isSigned ? i : i + 1)
      let step = (1 - start) / Float(parts)
      let points = (0...parts).map { k -> Float in
        k < (parts + 1) / 2
          ? start.addingProduct(step, Float(k)) : Float(1).addingProduct(-step, Float(parts - k))
      }
      let scale = Float(scales[i])
      for k in 0..<parts {
        let value = (points[k] + points[k + 1]) / 2 * scale
        values.append(value)
        if isSigned { values.append(-value) }
      }
    }
    return values.sorted()
  }

  /// The upper ends of the decades.
  static let scales: [Double] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
}

/// A dynamic map with the tables by which kernels find the nearest entry of a value in [-1, 1] without a search.
///
/// A cell holds the values of one sign that share exponent and the upper seven bits of the mantissa. Entries lie
/// further apart than a cell is wide, so a cell sees at most one change of code: `cells` keeps the code at its start
/// (from bit 20) and the lower 16 bits of the first magnitude with the next code (2^16 when there is none). Exact ties
/// between two entries go to the even index, as in the CUDA kernels of bitsandbytes.
public struct DynamicCodec: @unchecked Sendable {
  /// 256 values.
  package let map: UnsafePointer<Float>
  /// `cellCount` cells of positive values, then, in a signed map, as many of negative ones.
  package let cells: UnsafePointer<UInt32>
  /// The map as lines; see `DynamicLines`.
  package let lines: UnsafeRawPointer
  package let isSigned: Bool

  /// Upper half of the bit pattern of 2^-24, below which all values have the code of zero.
  @inlinable public static var firstCell: UInt32 { (127 - 24) << 7 }
  /// Upper half of the bit pattern of 1.
  @inlinable public static var lastCell: UInt32 { 127 << 7 }
  /// Cells of the values of one sign.
  @inlinable public static var cellCount: Int { Int(lastCell - firstCell) + 1 }

  package static let signed = DynamicCodec(DynamicMap.signed, isSigned: true)
  package static let unsigned = DynamicCodec(DynamicMap.unsigned, isSigned: false)

  /// The tables live as long as the process.
  private init(_ values: [Float], isSigned: Bool) {
    // Kernels read the map sixteen entries at a time: no such read should lie in two cache lines.
    let map = UnsafeMutableRawPointer.allocate(byteCount: 1024, alignment: 64).bindMemory(to: Float.self, capacity: 256)
    map.initialize(from: values, count: 256)
    let thresholds = (0..<255).map { Self.threshold(above: $0, values) }
    func code(_ s: Float) -> UInt32 { UInt32(thresholds.count { $0 <= s }) }
    let cells = UnsafeMutablePointer<UInt32>.allocate(capacity: 2 * Self.cellCount)
    cells.initialize(repeating: 0, count: 2 * Self.cellCount)
    for number in 0..<Self.cellCount {
      let start = (UInt32(number) + Self.firstCell) << 16
      let end = start + 0xFFFF
      for sign in 0..<(isSigned ? 2 : 1) {
        func value(_ bits: UInt32) -> Float { sign == 0 ? Float(bitPattern: bits) : -Float(bitPattern: bits) }
        let first = code(value(start))
        var change: UInt32 = 0x10000
        if code(value(end)) != first {
          var (low, high) = (start, end)
          while high - low > 1 {
            let middle = low + (high - low) / 2
            if code(value(middle)) == first { low = middle } else { high = middle }
          }
          change = high & 0xFFFF
        }
        cells[number + sign * Self.cellCount] = first << 20 | change
      }
    }
    self.map = UnsafePointer(map)
    self.cells = UnsafePointer(cells)
    self.lines = DynamicLines.table(values, isSigned: isSigned)
    self.isSigned = isSigned
  }

  /// The least value that is nearer to entry `index + 1` than to entry `index`, or as near when that one is even.
  private static func threshold(above index: Int, _ values: [Float]) -> Float {
    let middle = (Double(values[index]) + Double(values[index + 1])) / 2
    let nearest = Float(middle)
    if Double(nearest) > middle || (Double(nearest) == middle && index % 2 == 1) { return nearest }
    return nearest.nextUp
  }
}
