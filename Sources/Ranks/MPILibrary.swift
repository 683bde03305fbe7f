import Glibc

/// The functions and constants of whichever MPI library is at hand, found at run time.
///
/// MPI fixes an interface for source code; each family of libraries has a binary interface of its own:
/// - Open MPI 4 and 5 (`libmpi.so.40`): handles are addresses of exported symbols.
/// - MPICH and its kin (`libmpi.so.12`): handles are 32-bit constants.
/// - the standard ABI of MPI 5 (`libmpi_abi.so`): handles are small constants in pointers.
///
/// All of them fit a register, so that one signature with `UInt` for every handle calls all three. A request that a
/// library writes as 4 bytes lands in a zeroed `UInt`.
struct MPILibrary {
  typealias Handle = UInt
  typealias Buffer = UnsafeMutableRawPointer?

  let path: String
  private let world: Handle
  private let byte: Handle
  private let errorsReturn: Handle
  private let ignoreStatus: Buffer
  /// MPI_THREAD_FUNNELED: only the thread that opened it calls it.
  private let funneled: Int32

  private let initialize: @convention(c) (Buffer, Buffer, Int32, UnsafeMutablePointer<Int32>) -> Int32
  private let finalizeAll: @convention(c) () -> Int32
  private let abortAll: @convention(c) (Handle, Int32) -> Int32
  private let rankOf: @convention(c) (Handle, UnsafeMutablePointer<Int32>) -> Int32
  private let sizeOf: @convention(c) (Handle, UnsafeMutablePointer<Int32>) -> Int32
  private let setErrorHandler: @convention(c) (Handle, Handle) -> Int32
  private let libraryVersion: @convention(c) (UnsafeMutablePointer<CChar>, UnsafeMutablePointer<Int32>) -> Int32
  private let send:
    @convention(c) (UnsafeRawPointer?, Int32, Handle, Int32, Int32, Handle, UnsafeMutablePointer<Handle>) -> Int32
  private let receive:
    @convention(c) (Buffer, Int32, Handle, Int32, Int32, Handle, UnsafeMutablePointer<Handle>) -> Int32
  private let test: @convention(c) (UnsafeMutablePointer<Handle>, UnsafeMutablePointer<Int32>, Buffer) -> Int32

  /// Opens what `QLORA_MPI` names, else the first library of those that belong to the launcher.
  /// - Throws: `RankError.noLibrary`, `.noSymbol`.
  init(_ launcher: Launcher) throws(RankError) {
    var (failures, opened): ([String], (UnsafeMutableRawPointer, String)?) = ([], nil)
    for name in getenv("QLORA_MPI").map({ [String(cString: $0)] }) ?? launcher.libraries {
      // Open MPI's own plugins look for its symbols in the global scope.
      if let library = dlopen(name, RTLD_NOW | RTLD_GLOBAL) {
        opened = (library, name)
        break
      }
      failures.append(dlerror().map { String(cString: $0) } ?? name)
    }
    guard let (library, path) = opened else {
      throw .noLibrary(launcher: launcher.name, size: launcher.size, failures: failures)
    }
    self.path = path
    func address(_ name: String) throws(RankError) -> UnsafeMutableRawPointer {
      guard let address = dlsym(library, name) else { throw .noSymbol(path: path, name: name) }
      return address
    }
    func function<F>(_ name: String) throws(RankError) -> F { unsafeBitCast(try address(name), to: F.self) }
    if dlsym(library, "ompi_mpi_comm_world") != nil {
      world = Handle(bitPattern: try address("ompi_mpi_comm_world"))
      byte = Handle(bitPattern: try address("ompi_mpi_byte"))
      errorsReturn = Handle(bitPattern: try address("ompi_mpi_errors_return"))
      (ignoreStatus, funneled) = (nil, 1)
    } else if dlsym(library, "MPI_Abi_get_version") != nil, path.contains("abi") {
      (world, byte, errorsReturn, ignoreStatus, funneled) = (0x101, 0x247, 0x143, nil, 1024)
    } else {
      (world, byte, errorsReturn) = (0x4400_0000, 0x4c00_010d, 0x5400_0001)
      (ignoreStatus, funneled) = (UnsafeMutableRawPointer(bitPattern: 1), 1)
    }
    initialize = try function("MPI_Init_thread")
    finalizeAll = try function("MPI_Finalize")
    abortAll = try function("MPI_Abort")
    rankOf = try function("MPI_Comm_rank")
    sizeOf = try function("MPI_Comm_size")
    setErrorHandler = try function("MPI_Comm_set_errhandler")
    libraryVersion = try function("MPI_Get_library_version")
    send = try function("MPI_Isend")
    receive = try function("MPI_Irecv")
    test = try function("MPI_Test")
  }

  private func check(_ code: Int32, _ call: String) throws(RankError) {
    guard code == 0 else { throw .failed(call: call, code: code, path: path) }
  }

  /// Connects to the others; errors of later calls are returned from then on, not fatal.
  /// - Returns: what the library knows this process as.
  func connect() throws(RankError) -> (rank: Int, size: Int) {
    var provided: Int32 = 0
    try check(initialize(nil, nil, funneled, &provided), "MPI_Init_thread")
    try check(setErrorHandler(world, errorsReturn), "MPI_Comm_set_errhandler")
    var (rank, size): (Int32, Int32) = (0, 0)
    try check(rankOf(world, &rank), "MPI_Comm_rank")
    try check(sizeOf(world, &size), "MPI_Comm_size")
    return (Int(rank), Int(size))
  }

  /// "Open MPI v4.1.4", "MPICH Version: 5.0.2".
  var version: String {
    var (text, count) = ([CChar](repeating: 0, count: 8192), Int32(0))
    guard libraryVersion(&text, &count) == 0 else { return "an MPI library" }
    let line = text.prefix { $0 != 0 && $0 != 10 && $0 != 44 }.map { UInt8(bitPattern: $0 == 9 ? 32 : $0) }
    return String(decoding: line, as: UTF8.self).split(separator: " ").joined(separator: " ")
  }

  func finish() { _ = finalizeAll() }

  func abort(_ code: Int32) { _ = abortAll(world, code) }

  /// Starts to send; the bytes must stay until `isDone`.
  func start(sending bytes: UnsafeRawBufferPointer, to rank: Int) throws(RankError) -> Handle {
    var request: Handle = 0
    try check(send(bytes.baseAddress, Int32(bytes.count), byte, Int32(rank), 1, world, &request), "MPI_Isend")
    return request
  }

  /// Starts to receive; the bytes must stay until `isDone`.
  func start(receiving bytes: UnsafeMutableRawBufferPointer, from rank: Int) throws(RankError) -> Handle {
    var request: Handle = 0
    try check(receive(bytes.baseAddress, Int32(bytes.count), byte, Int32(rank), 1, world, &request), "MPI_Irecv")
    return request
  }

  /// Whether a request is done, which lets the others go on too.
  func isDone(_ request: inout Handle) throws(RankError) -> Bool {
    var done: Int32 = 0
    try check(test(&request, &done, ignoreStatus), "MPI_Test")
    return done != 0
  }
}
