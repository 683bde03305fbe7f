import Testing

@testable import Ranks

@Suite struct LauncherTests {
  private func launcher(_ variables: [String: String]) -> Launcher? { Launcher { variables[$0] } }

  @Test(arguments: [
    [:], ["OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"], ["PMI_SIZE": "2"],
    ["PMI_SIZE": "two", "PMI_RANK": "0"], ["SLURM_NTASKS": "4", "SLURM_PROCID": "0"],
    ["PMI_SIZE": "2", "PMI_RANK": "2"],
  ]) func nothingStartedItWithOthers(variables: [String: String]) { #expect(launcher(variables) == nil) }

  @Test func theLauncherIsToldByItsVariables() throws {
    let openMPI = try #require(launcher(["OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"]))
    #expect(openMPI.name == "mpirun of Open MPI" && openMPI.rank == 3 && openMPI.size == 4 && openMPI.connects)
    #expect(openMPI.libraries.first == "libmpi.so.40")
    let mpich = try #require(launcher(["PMI_SIZE": "2", "PMI_RANK": "1"]))
    #expect(mpich.rank == 1 && mpich.libraries.first == "libmpi.so.12")
  }

  /// srun sets its own variables with and without a plugin that connects the processes.
  @Test func srunConnectsOnlyWithPMI() throws {
    let bare = ["SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"]
    #expect(try #require(launcher(bare)).connects == false)
    let pmix = try #require(launcher(bare.merging(["PMIX_RANK": "1"]) { $1 }))
    #expect(pmix.connects && pmix.libraries.first == "libmpi.so.40")
    let pmi = try #require(launcher(bare.merging(["PMI_RANK": "1", "PMI_SIZE": "2"]) { $1 }))
    #expect(pmi.connects && pmi.name == "srun" && pmi.libraries.first == "libmpi.so.12")
  }

  @Test func unconnectedRanksSayWhatToDo() throws {
    let ranks = try Ranks(Launcher(name: "srun", rank: 1, size: 2, libraries: [], connects: false))
    #expect(ranks.rank == 1 && ranks.size == 2 && !ranks.isConnected)
    #expect(throws: RankError.unconnected(launcher: "srun", size: 2)) { try ranks.gather([1], at: "here") }
    #expect("\(RankError.unconnected(launcher: "srun", size: 2))".contains("srun --mpi=pmix"))
  }

  @Test func aMissingLibraryIsNamedWithLauncherAndRemedy() {
    let launcher = Launcher(name: "mpirun of X", rank: 0, size: 2, libraries: ["libnone-of-this.so.7"])
    let error = #expect(throws: RankError.self) { try Ranks(launcher) }
    let text = error.map { "\($0)" } ?? ""
    for part in ["mpirun of X", "libnone-of-this.so.7", "openmpi-bin", "QLORA_MPI"] { #expect(text.contains(part)) }
  }

  @Test func anotherLibraryIsNoMPI() {
    let launcher = Launcher(name: "mpirun", rank: 0, size: 2, libraries: ["libm.so.6"])
    #expect(throws: RankError.noSymbol(path: "libm.so.6", name: "MPI_Init_thread")) { try Ranks(launcher) }
  }

  @Test func oneAloneGathersItsOwn() throws {
    #expect(try Ranks.alone.gather([1, 2], at: "x") == [[1, 2]])
    #expect(Ranks.alone.isFirst && Ranks.alone.size == 1)
  }
}

@Suite struct PlacementTests {
  @Test func processorsGivenToAllAreSharedOut() {
    let sets = [[Int]](repeating: [0, 1, 2, 3, 8, 9], count: 4)
    let shares = (0..<4).map { Placement($0, sets: sets, present: 6, host: "h").processors ?? [] }
    #expect(shares == [[0], [1, 2], [3], [8, 9]])
    #expect(Placement(0, sets: sets, present: 6, host: "h").warning == nil)
  }

  @Test func moreProcessesThanProcessorsTakeTurns() {
    let sets = [[Int]](repeating: [4, 5], count: 3)
    #expect((0..<3).map { Placement($0, sets: sets, present: 2, host: "h").processors } == [[4], [5], [4]])
  }

  @Test func whatTheLauncherBoundStays() {
    #expect(Placement(1, sets: [[0, 1], [2, 3]], present: 4, host: "h").processors == nil)
  }

  @Test func idleProcessorsAreToldOnce() {
    let sets = [[0], [1]]
    #expect(Placement(0, sets: sets, present: 64, host: "box").warning?.contains("2 of 64 processors") == true)
    #expect(Placement(1, sets: sets, present: 64, host: "box").warning == nil)
  }
}
