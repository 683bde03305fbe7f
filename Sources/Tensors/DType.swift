/// Element types of tensors. The raw values are the numbers that kernels receive.
public enum DType: Int32, Sendable, CaseIterable {
  case f32 = 0
  case bf16 = 1
  case f16 = 2
  case i64 = 3
  case i32 = 4
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

  public var isFloat: Bool { self == .f32 || self == .bf16 || self == .f16 }

  public init?(name: String) {
    guard let match = DType.allCases.first(where: { $0.name == name }) else { return nil }
    self = match
  }
}
