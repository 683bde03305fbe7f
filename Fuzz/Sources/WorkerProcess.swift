import Formats
import Glibc

/// A worker as the supervisor sees it: a child process, its record and its memory.
final class WorkerProcess {
  enum State {
    case running, ended
    /// Ended by a signal, stopped for time or memory, or unable to go on.
    case failed(String)
  }

  let record: Record
  /// The most resident bytes seen.
  private(set) var peak = 0
  private let pid: pid_t
  private var isRunning = true
  private let scratch: String
  private let make: (_ first: Int) throws -> WorkerProcess

  init(
    _ kind: DriverKind, _ settings: Settings, root: String, scratch: String, first: Int, stride: Int, end: Int,
    deadline: Int
  ) throws {
    try FileSystem.remove(scratch)
    try FileSystem.makeDirectory(scratch)
    guard let record = Record(path: scratch + "/record", creates: true) else {
      throw FormatError.system(path: scratch, operation: "map", code: errno)
    }
    self.record = record
    self.scratch = scratch
    make = { next in
      try WorkerProcess(
        kind, settings, root: root, scratch: scratch, first: next, stride: stride, end: end, deadline: deadline)
    }
    let arguments = [
      "/proc/self/exe", "--root", root, "--seed", "\(settings.seed)", "--memory-mb", "\(settings.memory >> 20)",
      "--worker", kind.name, "\(first)", "\(stride)", "\(end)", "\(deadline)", scratch,
    ]
    pid = try Self.spawn(settings.isSanitized ? arguments.inserting("--sanitized", at: 1) : arguments, scratch)
  }

  /// The same worker from another number on.
  func again(first: Int) throws -> WorkerProcess { try make(first) }

  /// What the worker wrote to standard error, the last part of it.
  var errors: String {
    let bytes = (try? MappedFile(path: scratch + "/errors").withBytes { Array($0.suffix(20_000)) }) ?? []
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func spawn(_ arguments: [String], _ scratch: String) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, scratch + "/errors", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    var words = arguments.map { strdup($0) } + [nil]
    // Writing a trace of a crash takes longer than reading thousands of inputs.
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    let asan = getenv("ASAN_OPTIONS").map { String(cString: $0) } ?? "detect_leaks=0"
    let variables = [
      "PATH=\(path)", "HOME=\(scratch)", "TMPDIR=\(scratch)", "SWIFT_BACKTRACE=enable=no", "ASAN_OPTIONS=\(asan)",
    ]
    var environment = variables.map { strdup($0) } + [nil]
    defer { for word in words + environment { free(word) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, "/proc/self/exe", &actions, nil, &words, &environment)
    guard code == 0 else { throw FormatError.system(path: "fuzz", operation: "start a worker", code: code) }
    return pid
  }

  /// What became of the worker; stops it where its input takes too long or its memory too much.
  func look(timeout: Double, memory: Int) -> State {
    peak = max(peak, residentByteCount)
    if peak > memory {
      stop()
      return .failed("memory above \(memory >> 20) MiB (\(peak >> 20) MiB)")
    }
    let began = record[.began]
    if began != 0, Double(Record.now - began) / 1e9 > timeout {
      stop()
      return .failed("no end within \(Int(timeout)) s")
    }
    var status: Int32 = 0
    var used = rusage()
    guard wait4(pid, &status, WNOHANG, &used) == pid else { return .running }
    isRunning = false
    peak = max(peak, used.ru_maxrss << 10)
    if status & 0x7F != 0 { return .failed("signal \(status & 0x7F)") }
    let code = (status >> 8) & 0xFF
    return code == 0 ? .ended : .failed("exit code \(code)")
  }

  func stop() {
    guard isRunning else { return }
    kill(pid, SIGKILL)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    isRunning = false
  }

  private var residentByteCount: Int {
    guard let file = fopen("/proc/\(pid)/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 128)
    guard fgets(&line, 128, file) != nil else { return 0 }
    let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(
      separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
  }
}

extension [String] {
  fileprivate func inserting(_ word: String, at place: Int) -> [String] {
    Array(self[..<place] + [word] + self[place...])
  }
}
