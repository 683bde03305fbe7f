/// Element types of tensors. The raw values are the numbers that kernels receive.
public enum DType: Int32, Sendable, CaseIterable {
  /// IEEE 754 single precision.
  case f32 = 0
  /// bfloat16: the upper half of an f32.
  case bf16 = 1
  /// IEEE 754 half precision.
  case f16 = 2
  /// Signed, 64 bits.
  case i64 = 3
  /// Signed, 32 bits: token ids, labels, positions.
  case i32 = 4
  /// Unsigned, 8 bits: codes of quantized values.
  case u8 = 5

  /// Bytes per element.
  public var byteCount: Int {
    switch self {
    case .i64: 8
    case .f32, .i32: 4
    case .bf16, .f16: 2
    case .u8: 1
    }
  }

  /// The name used in recipes and messages, for example `bf16`.
  public var name: String { String(describing: self) }

  /// Whether it is f32, bf16 or f16.
  public var isFloat: Bool { self == .f32 || self == .bf16 || self == .f16 }

  /// What an integer type holds; nil for floats.
  public var integers: ClosedRange<Int>? {
    switch self {
    case .i64: .min ... .max
    case .i32: Int(Int32.min)...Int(Int32.max)
    case .u8: 0...255
    case .f32, .bf16, .f16: nil
    }
  }

  /// The type with that `name`; nil for any other text.
  public init?(name: String) {
    guard let match = DType.allCases.first(where: { $0.name == name }) else { return nil }
    self = match
  }
}
