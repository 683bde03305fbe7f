import Tensors

/// In which formats a GGUF file holds its tensors: what llama.cpp calls a file type.
public enum GGUFMixture: String, Sendable, CaseIterable {
  /// Plain numbers.
  case f32, f16, bf16
  /// One format of blocks for all matrices but the output matrix, which is Q8_0 or at least Q6_K.
  case q8_0, q4_0, q6_k
  /// Q4_K or Q5_K, and Q6_K for half of the values and down projections.
  case q4_k_m, q5_k_m

  /// `general.file_type`, a number of llama.cpp's `enum llama_ftype`.
  var number: Int {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q8_0: 7
    case .q4_k_m: 15
    case .q5_k_m: 17
    case .q6_k: 18
    case .bf16: 32
    }
  }

  /// The format of most matrices.
  package var base: GGMLType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .q8_0: .q8_0
    case .q4_0: .q4_0
    case .q6_k: .q6_K
    case .q4_k_m: .q4_K
    case .q5_k_m: .q5_K
    }
  }

  /// The format of one tensor, as llama.cpp's quantizer chooses it for dense models (`llama_tensor_get_type`).
  /// - Parameters:
  ///   - name: in the GGUF file: `blk.3.ffn_down.weight`.
  ///   - shape: row-major.
  ///   - layer: the number of its layer.
  ///   - spec: of the model.
  /// - Returns: F32 for vectors, and a format whose blocks fill the rows.
  func type(of name: String, shape: [Int], layer: Int?, in spec: DecoderSpec) -> GGMLType {
    guard shape.count > 1, name.hasSuffix(".weight") else { return .f32 }
    guard base.isBlocked else { return base }
    var type = base
    let (layer, count) = (layer ?? 0, spec.layerCount)
    if name == "output.weight" || name == "token_embd.weight" && spec.tiesEmbeddings {
      type = shape[1] % base.blockSize != 0 || base == .q8_0 ? .q8_0 : .q6_K
    } else if self == .q4_k_m || self == .q5_k_m {
      let isValue = name.hasSuffix(".attn_v.weight") || name.hasSuffix(".attn_qkv.weight")
      let isImportant = layer < count / 8 || layer >= 7 * count / 8 || (layer - count / 8) % 3 == 2
      if isImportant, isValue || name.hasSuffix(".ffn_down.weight") { type = .q6_K }
      // In models of 80 layers with shared keys eight heads have the same values.
      if isValue, type == .q4_K, count == 80, spec.keyValueHeadCount != spec.headCount { type = .q5_K }
    }
    return Self.fitting(type, columns: shape[1])
  }

  /// A format whose blocks fill the rows, where those of `type` do not.
  private static func fitting(_ type: GGMLType, columns: Int) -> GGMLType {
    guard columns % type.blockSize != 0 else { return type }
    let smaller: [GGMLType: GGMLType] = [.q4_K: .q5_0, .q5_K: .q5_1, .q6_K: .q8_0]
    guard let other = smaller[type], columns % other.blockSize == 0 else { return .f16 }
    return other
  }
}
