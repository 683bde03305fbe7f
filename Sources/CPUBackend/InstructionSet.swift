import CPlatform
import Glibc

/// The builds of the kernels, from least to most demanding.
public enum InstructionSet: Int, Sendable, CaseIterable {
  /// SSE2, or NEON on ARM.
  case baseline = 0
  case avx2 = 1
  case avx512 = 2
  case avx512bf16 = 3

  public var isSupported: Bool { cp_cpu_supports(Int32(rawValue)) != 0 }

  public static var best: InstructionSet { allCases.last { $0.isSupported } ?? .baseline }

  /// What this process uses: the best one, or what `QLORA_ISA` names (an unknown or unsupported name is an error
  /// that `qlora-run` reports; here it falls back to the best).
  public static let selected: InstructionSet = {
    guard let raw = getenv("QLORA_ISA") else { return best }
    let name = String(cString: raw)
    let match = allCases.first { String(describing: $0) == name }
    return match.flatMap { $0.isSupported ? $0 : nil } ?? best
  }()
}
