import Foundation

/// The program on a pseudo-terminal of its own, typed at as a user would.
final class Terminal {
  struct Failure: Error, CustomStringConvertible { let description: String }

  /// Constants of Linux that Swift's Glibc module leaves out.
  private enum Request {
    static let lock: UInt = 0x4004_5431  // TIOCSPTLCK
    static let number: UInt = 0x8004_5430  // TIOCGPTN
    static let newSession: Int16 = 0x80  // POSIX_SPAWN_SETSID
  }

  private let master: Int32
  private let process: pid_t
  private var bytes: [UInt8] = []
  /// Where the output since the last `type` starts.
  private var mark = 0

  /// Starts the program as leader of a session whose terminal this is, so that a typed Ctrl-C is a signal to it.
  init(_ arguments: [String], in directory: URL, environment: [String: String] = [:]) throws {
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    var (isLocked, number): (Int32, Int32) = (0, 0)
    guard master >= 0, ioctl(master, Request.lock, &isLocked) == 0, ioctl(master, Request.number, &number) == 0 else {
      throw Failure(description: "no pseudo-terminal")
    }
    var size = winsize(ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0)
    _ = ioctl(master, UInt(TIOCSWINSZ), &size)
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    posix_spawn_file_actions_addopen(&files, 0, "/dev/pts/\(number)", O_RDWR, 0)
    for descriptor: Int32 in 1...2 { posix_spawn_file_actions_adddup2(&files, 0, descriptor) }
    posix_spawn_file_actions_addclose(&files, master)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    // The thread of a test may block signals; the program must not start so.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Request.newSession | Int16(POSIX_SPAWN_SETSIGMASK))
    // The kernels and the libraries of the program are those of the tests.
    let inherited = ProcessInfo.processInfo.environment.filter { ["QLORA_ISA", "LD_LIBRARY_PATH"].contains($0.key) }
    let variables = ["TERM": "xterm", "HOME": directory.path, "PATH": "/usr/bin:/bin"]
      .merging(inherited) { $1 }.merging(environment) { $1 }
    var argv = (["env", "-C", directory.path, Program.executable.path] + arguments).map { strdup($0) } + [nil]
    var envp = variables.map { strdup("\($0)=\($1)") } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var pid = pid_t()
    guard posix_spawn(&pid, "/usr/bin/env", &files, &attributes, &argv, &envp) == 0 else {
      throw Failure(description: "cannot start \(Program.executable.path)")
    }
    process = pid
    _ = fcntl(master, F_SETFL, O_NONBLOCK)
  }

  deinit {
    kill(process, SIGKILL)
    close(master)
  }

  /// Everything written since the last `type`, without the sequences that move the cursor or colour.
  var recent: String {
    let text = String(decoding: bytes[mark...], as: UTF8.self)
    return text.replacingOccurrences(
      of: "\u{1b}\\[[0-9;?]*[A-Za-z]|\u{1b}[=>]|\r|\u{8}", with: "", options: .regularExpression)
  }

  /// Everything written, as it came.
  var raw: String { String(decoding: bytes, as: UTF8.self) }

  /// Sends keys; `\r` is Enter, `\t` Tab, `\u{3}` Ctrl-C.
  func type(_ keys: String) {
    drain()
    mark = bytes.count
    var sent = 0
    let data = Array(keys.utf8)
    while sent < data.count {
      let count = data[sent...].withUnsafeBytes { write(master, $0.baseAddress, $0.count) }
      if count < 0, errno != EAGAIN { return }
      sent += max(0, count)
    }
  }

  /// Types a line and waits for `answer` below it.
  func ask(_ line: String, _ answer: String) throws {
    type(line + "\r")
    try expect("\n" + answer)
  }

  /// Types Ctrl-C and waits for the prompt: the terminal drops what is typed before the program has seen the signal.
  func interrupt(_ answer: String? = nil) throws {
    type("\u{3}")
    if let answer { try expect(answer) }
    try expect("> ")
  }

  /// Waits for a text in what was written since the last `type`.
  func expect(_ text: String, seconds: Double = 60) throws {
    try wait("no \(text.debugDescription)", seconds) { $0.contains(text) }
  }

  /// Waits for a whole line that matches a regular expression.
  func expect(lineMatching pattern: String, seconds: Double = 60) throws {
    try wait("no line like \(pattern)", seconds) {
      $0.range(of: "\n\(pattern)\n", options: .regularExpression) != nil
    }
  }

  private func wait(_ problem: String, _ seconds: Double, until isThere: (String) -> Bool) throws {
    let deadline = Date().addingTimeInterval(seconds)
    while !isThere(recent) {
      guard Date() < deadline else { throw Failure(description: "\(problem) in: \(recent)") }
      drain()
      usleep(5000)
    }
  }

  /// Waits for the end of the program.
  /// - Returns: its exit code.
  func exitCode(seconds: Double = 60) throws -> Int32 {
    let deadline = Date().addingTimeInterval(seconds)
    var status: Int32 = 0
    while waitpid(process, &status, WNOHANG) == 0 {
      guard Date() < deadline else { throw Failure(description: "the program does not end: \(recent)") }
      drain()
      usleep(5000)
    }
    drain()
    return status & 0x7f == 0 ? (status >> 8) & 0xff : -(status & 0x7f)
  }

  private func drain() {
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = read(master, &chunk, chunk.count)
      if count <= 0 { return }
      bytes += chunk[..<count]
    }
  }
}
