/// Block formats of ggml tensors that can be read, with the numbers of `enum ggml_type`. A block is a run of a row with
/// scales of its own; plain numbers are blocks of one element.
public enum GGMLType: UInt32, Sendable, CaseIterable {
  /// Plain numbers.
  case f32 = 0, f16 = 1, bf16 = 30
  /// Blocks of 32 elements with one f16 scale: 4, 5 and 8 bits, and with a minimum beside it.
  case q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8
  /// Blocks of 256 elements, in which parts of 16 or 32 have small scales under an f16 one: 2 to 6 bits.
  case q2_K = 10, q3_K = 11, q4_K = 12, q5_K = 13, q6_K = 14
  /// Blocks of 32 elements with 4-bit codes of a table: under an f16 scale, and under a power of two.
  case iq4_nl = 20, mxfp4 = 39

  /// Elements per block.
  public var blockSize: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_nl, .mxfp4: 32
    case .q2_K, .q3_K, .q4_K, .q5_K, .q6_K: 256
    }
  }

  /// Bytes per block.
  public var blockBytes: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .q4_0, .iq4_nl: 18
    case .q4_1: 20
    case .q5_0: 22
    case .q5_1: 24
    case .q8_0: 34
    case .q2_K: 84
    case .q3_K: 110
    case .q4_K: 144
    case .q5_K: 176
    case .q6_K: 210
    case .mxfp4: 17
    }
  }

  /// As llama.cpp writes it: "Q4_K".
  public var name: String {
    switch self {
    case .f32, .f16, .bf16, .iq4_nl, .mxfp4: "\(self)".uppercased()
    default: "Q" + "\(self)".dropFirst()
    }
  }

  /// Whether elements share scales, so that they must be decoded.
  public var isBlocked: Bool { blockSize > 1 }

  package static var supported: [String] { allCases.map(\.name) }

  /// The name of any type number, for messages about those that cannot be read.
  package static func name(of number: UInt32) -> String {
    if let known = GGMLType(rawValue: number) { return known.name }
    let others: [UInt32: String] = [
      9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
      22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0",
      35: "TQ2_0",
    ]
    return others[number] ?? "type \(number)"
  }
}
