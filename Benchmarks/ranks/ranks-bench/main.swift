import CPUBackend
import Glibc
import Ranks
import Tensors
import Training

// `mpirun -n 2 ranks-bench`: the sum of gradients over the ranks beside MPI_Allreduce, in one run, turn by turn.

func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// MPI_Allreduce of the library that `Ranks` has opened, with its constants: Open MPI's symbols, else MPICH's numbers.
struct LibrarySum {
  typealias Function = @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int32, UInt, UInt, UInt) -> Int32
  let function: Function
  let (float, sum, world): (UInt, UInt, UInt)

  init?() {
    guard let address = dlsym(nil, "MPI_Allreduce") else { return nil }
    function = unsafeBitCast(address, to: Function.self)
    func handle(_ name: String) -> UInt? { dlsym(nil, name).map { UInt(bitPattern: $0) } }
    float = handle("ompi_mpi_float") ?? 0x4c00_040a
    sum = handle("ompi_mpi_op_sum") ?? 0x5800_0003
    world = handle("ompi_mpi_comm_world") ?? 0x4400_0000
  }

  func run(_ values: UnsafeRawBufferPointer, into result: UnsafeMutableRawBufferPointer) {
    precondition(
      function(values.baseAddress, result.baseAddress, Int32(values.count / 4), float, sum, world) == 0)
  }
}

guard let launcher = Launcher() else {
  print("start it with a launcher: mpirun -n 2 ranks-bench")
  exit(2)
}
let ranks = try Ranks(launcher)
_ = try ranks.place()
guard let library = LibrarySum() else { fatalError("no MPI_Allreduce") }
let backend = CPUBackend()
if ranks.isFirst { print("\(ranks.size) ranks, \(ranks.library ?? ""), \(backend.threadCount) threads a rank") }
for megabytes in [20, 160] {
  let count = megabytes * 250_000
  let values = try Tensor(full: [count], value: 1, dtype: .f32, on: backend)
  let result = try Tensor(full: [count], value: 0, dtype: .f32, on: backend)
  let sum = try GradientSum([values], ranks: ranks)
  var (own, theirs): ([Double], [Double]) = ([], [])
  for round in 0..<12 {
    values.gradient = try values.copied()
    _ = try sum.begin(ranks.size)
    try sum.add(loss: 1)
    _ = try ranks.gather([], at: "start")
    var start = now()
    _ = try sum.finish()
    if round > 1 { own.append(now() - start) }
    _ = try ranks.gather([], at: "start")
    start = now()
    try values.withHostBytes { from in try result.withMutableHostBytes { library.run(from, into: $0) } }
    if round > 1 { theirs.append(now() - start) }
    guard try values.gradient?.narrowed(0, 0..<1).item() == Double(ranks.size) else { fatalError("a wrong sum") }
  }
  func text(_ times: [Double]) -> String {
    let sorted = times.sorted().map { ($0 * 1e5).rounded() / 100 }
    return "\(sorted[0]) ms (median \(sorted[sorted.count / 2]))"
  }
  if ranks.isFirst {
    let ratio = ((own.min() ?? 0) / (theirs.min() ?? 1) * 100).rounded() / 100
    print("\(megabytes) MB: own order \(text(own)), MPI_Allreduce \(text(theirs)), ratio of the best \(ratio)")
  }
}
try ranks.finish()
