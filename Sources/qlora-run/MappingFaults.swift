@preconcurrency import Glibc
import Synchronization

/// Weights lie in mapped files. One that is cut short or whose disk fails shows when its memory is touched, as a signal
/// in whatever thread does it; this ends the program as an error does, naming the file.
enum MappingFaults {
  private static let size = 1 << 16
  nonisolated(unsafe) private static let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: size)

  /// Whether a thread tells of a fault; others that meet one wait for the end.
  private static let isTelling = Atomic(false)

  static func install() {
    _ = (buffer, isTelling.load(ordering: .relaxed))  // a handler must not allocate
    var action = sigaction()
    action.__sigaction_handler.sa_sigaction = { _, info, _ in
      while MappingFaults.isTelling.exchange(true, ordering: .relaxed) { pause() }
      MappingFaults.say("qlora-run: ")
      MappingFaults.sayFile(at: info.map { UInt(bitPattern: $0.pointee._sifields._sigfault.si_addr) } ?? 0)
      MappingFaults.say(" cannot be read any more: it was cut short while in use, or its disk fails; ")
      MappingFaults.say("put the file right, and go on from the last checkpoint with --resume\n")
      _exit(ExitCode.recipeError)
    }
    action.sa_flags = SA_SIGINFO
    sigaction(SIGBUS, &action, nil)
  }

  private static func say(_ text: StaticString) { _ = write(2, text.utf8Start, text.utf8CodeUnitCount) }

  /// Writes the path of the mapping that holds an address, from /proc/self/maps.
  private static func sayFile(at address: UInt) {
    let descriptor = open("/proc/self/maps", O_RDONLY)
    var filled = 0
    while descriptor >= 0 {
      let count = read(descriptor, buffer + filled, size - filled)
      if count > 0 { filled += count }
      var start = 0
      for end in 0..<filled where buffer[end] == UInt8(ascii: "\n") {
        if sayPath(start..<end, holding: address) { return }
        start = end + 1
      }
      guard count > 0, start > 0 else { break }
      memmove(buffer, buffer + start, filled - start)
      filled -= start
    }
    say("a mapped file")
  }

  /// One line, `start-end rights offset device inode path`.
  private static func sayPath(_ line: Range<Int>, holding address: UInt) -> Bool {
    var (numbers, position): ((UInt, UInt), Int) = ((0, 0), line.lowerBound)
    func number() -> UInt {
      var value: UInt = 0
      while position < line.upperBound {
        let byte = buffer[position]
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt(byte - UInt8(ascii: "a") + 10)
        default: return value
        }
        position += 1
      }
      return value
    }
    numbers.0 = number()
    position += 1
    numbers.1 = number()
    guard numbers.0 <= address, address < numbers.1 else { return false }
    guard let path = line.first(where: { buffer[$0] == UInt8(ascii: "/") && $0 > position }) else { return false }
    _ = write(2, buffer + path, line.upperBound - path)
    return true
  }
}
