import Glibc

/// What started this process together with others, told by its environment. Looking is a few reads of the environment,
/// so that a program started alone notices nothing.
public struct Launcher: Equatable, Sendable {
  /// For messages, such as "mpirun of Open MPI".
  public let name: String
  /// This process among the others, from 0.
  public let rank: Int
  /// How many there are, two at least.
  public let size: Int
  /// File names of the library that belongs to it, the likeliest first.
  let libraries: [String]
  /// Whether the processes can find each other: srun starts them also where they cannot.
  let connects: Bool

  private static let openMPI = ["libmpi.so.40", "libmpi.so"]
  private static let mpich = [
    "libmpi.so.12", "libmpich.so.12", "libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi_abi.so",
  ]

  /// The launcher that the environment tells of; nil where nothing started this process with others.
  /// - Parameter variable: an environment variable; by default of this process.
  public init?(variable: (String) -> String? = { getenv($0).map { String(cString: $0) } }) {
    func found(_ size: String, _ rank: String) -> (size: Int, rank: Int)? {
      guard let size = variable(size).flatMap({ Int($0) }), let rank = variable(rank).flatMap({ Int($0) }),
        size > 1, 0..<size ~= rank
      else { return nil }
      return (size, rank)
    }
    if let found = found("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK") {
      self.init(name: "mpirun of Open MPI", rank: found.rank, size: found.size, libraries: Self.openMPI)
    } else if let found = found("SLURM_STEP_NUM_TASKS", "SLURM_PROCID") {
      // Which of its plugins srun was told to use, it says by the variables of that plugin.
      let isPMIx = variable("PMIX_RANK") != nil
      let connects = isPMIx || variable("PMI_RANK") != nil || variable("PMI_FD") != nil
      self.init(
        name: "srun", rank: found.rank, size: found.size,
        libraries: isPMIx ? Self.openMPI + Self.mpich : Self.mpich + Self.openMPI, connects: connects)
    } else if let found = found("PMI_SIZE", "PMI_RANK") {
      self.init(
        name: "mpiexec of MPICH", rank: found.rank, size: found.size, libraries: Self.mpich + Self.openMPI)
    } else {
      return nil
    }
  }

  init(name: String, rank: Int, size: Int, libraries: [String], connects: Bool = true) {
    (self.name, self.rank, self.size, self.libraries, self.connects) = (name, rank, size, libraries, connects)
  }
}
