/// Why processes that were started together cannot work together.
public enum RankError: Error, Equatable, Sendable {
  /// No library could be opened; `failures` are the system's words for each name that was tried.
  case noLibrary(launcher: String, size: Int, failures: [String])
  /// The library lacks a function or constant.
  case noSymbol(path: String, name: String)
  /// A launcher and a library that know nothing of each other: every process would be the first of one.
  case foreign(launcher: String, size: Int, library: String, path: String, seen: Int)
  /// srun started the processes without what lets them find each other.
  case unconnected(launcher: String, size: Int)
  /// A call of the library failed.
  case failed(call: String, code: Int32, path: String)
  /// Two ranks ask for different things: their programs went different ways.
  case apart(rank: Int, place: String, other: Int, otherPlace: String)
  /// The program was told to stop while it waited.
  case interrupted
}

extension RankError: CustomStringConvertible {
  /// What happened, and what a user does about it: names of libraries and flags of launchers are known here alone.
  public var description: String {
    switch self {
    case .noLibrary(let launcher, let size, let failures):
      "\(launcher) started \(size) processes, but no MPI library can be opened (\(failures.joined(separator: "; "))); "
        + "install the launcher's (Debian: apt install openmpi-bin), or name it: QLORA_MPI=/path/to/libmpi.so"
    case .noSymbol(let path, let name): "\(path) is no MPI library that is known: it has no \(name)"
    case .foreign(let launcher, let size, let library, let path, let seen):
      "\(launcher) started \(size) processes, but \(library) (\(path)) sees \(seen): launcher and library are of "
        + "different MPIs; start with the launcher of this library, or set QLORA_MPI to the libmpi of the launcher"
        + (launcher == "srun" ? "; under Slurm try srun --mpi=pmix (srun --mpi=list names what there is)" : "")
    case .unconnected(let launcher, let size):
      "\(launcher) started \(size) processes that cannot reach each other: start them with srun --mpi=pmix "
        + "(srun --mpi=list names what there is) or with mpirun; only a sweep does without"
    case .failed(let call, let code, let path): "\(call) of \(path) failed with code \(code)"
    case .apart(let rank, Ranks.end, let other, let place), .apart(let other, let place, let rank, Ranks.end):
      "rank \(rank) has ended while rank \(other) is at '\(place)': it was stopped before the first step, or the "
        + "recipe asked for its rank before it trains, evaluates or saves, where all ranks must do the same"
    case .apart(let rank, let place, let other, let otherPlace):
      "rank \(rank) is at '\(place)', but rank \(other) at '\(otherPlace)': all ranks must do the same, so that a "
        + "recipe must not ask for its rank before it trains, evaluates or saves"
    case .interrupted: "interrupted while waiting for the other ranks"
    }
  }
}
