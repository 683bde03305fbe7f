import CPlatform
import Glibc

/// The builds of the kernels, from least to most demanding.
public enum InstructionSet: Int, Sendable, CaseIterable {
  /// SSE2, or NEON on ARM.
  case baseline = 0
  /// AVX2 on x86-64.
  case avx2 = 1
  /// AVX-512 on x86-64.
  case avx512 = 2
  /// AVX-512 with dot products of bfloat16 pairs on x86-64, or NEON with them on ARM.
  case avx512bf16 = 3
  /// The kernels of `avx512bf16`, with the tiles of AMX in products of bfloat16 pairs, on x86-64.
  case amx = 4

  /// Whether this processor has the instructions, and for `amx` also the permission of the system, which this asks for.
  public var isSupported: Bool { cp_cpu_supports(Int32(rawValue)) != 0 }

  /// Whether this processor has the instructions, but is faster without them: `avx512bf16` on Intel's processors with
  /// AMX, whose dot products of pairs have half the speed of multiply-adds of floats.
  public var isSlow: Bool { self == .avx512bf16 && isSupported && cp_has_slow_pairs() != 0 }

  /// The fastest build on this processor, which is the most demanding one but for those that are slow, and for `amx`:
  /// it passed in an emulator, and no processor has run it yet, so it is used where it is named.
  public static var best: InstructionSet { allCases.last { $0 != .amx && $0.isSupported && !$0.isSlow } ?? .baseline }

  /// What the environment asks for: the best one, or the one that `QLORA_ISA` names; an empty value asks for nothing.
  /// - Throws: `unknown` and `unsupported` for a name that cannot be followed.
  public static func requested() throws(InstructionSetError) -> InstructionSet {
    guard let raw = getenv("QLORA_ISA") else { return best }
    let name = String(cString: raw)
    if name.isEmpty { return best }
    guard let match = known.first(where: { $0.name == name }) else { throw .unknown(name: name) }
    guard match.isSupported else { throw .unsupported(match) }
    return match
  }

  /// What this process uses: what is requested, or the best where that is an error. A program asks `requested` at its
  /// start, to tell it.
  public static let selected: InstructionSet = (try? requested()) ?? best

  /// The name that `QLORA_ISA` takes.
  public var name: String {
    #if arch(arm64)
      self == .avx512bf16 ? "neon-bf16" : "neon"
    #else
      String(describing: self)
    #endif
  }

  /// The sets of this architecture.
  static var known: [InstructionSet] {
    #if arch(arm64)
      [.baseline, .avx512bf16]
    #else
      allCases
    #endif
  }
}

/// What is wrong with the value of `QLORA_ISA`.
public enum InstructionSetError: Error, Equatable, CustomStringConvertible {
  /// A name that is none of the known ones.
  case unknown(name: String)
  /// A build whose instructions this processor lacks.
  case unsupported(InstructionSet)

  /// The fault in words, with the names that are known and those that work here.
  public var description: String {
    func list(_ sets: [InstructionSet]) -> String { sets.map(\.name).joined(separator: ", ") }
    return switch self {
    case .unknown(let name):
      "QLORA_ISA is '\(name)', which names no instruction set; known: \(list(InstructionSet.known))"
    case .unsupported(let set):
      "QLORA_ISA is '\(set.name)', which this processor does not have; known: \(list(InstructionSet.known)); "
        + "here: \(list(InstructionSet.known.filter(\.isSupported)))"
    }
  }
}
