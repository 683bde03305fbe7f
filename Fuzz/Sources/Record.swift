import Glibc

/// What a worker is doing, in memory that the supervisor shares: it outlives the worker, so that the input that ended a
/// worker is known to the byte.
final class Record {
  /// The words at the start of the record.
  enum Word: Int, CaseIterable {
    /// The number of the input in work, and when it began in nanoseconds; 0 between inputs.
    case number, began
    /// Inputs so far.
    case done, accepted, refused
    /// Refused with a message that does not name the file.
    case unnamed
    case inputBytes, noteBytes
  }

  static let noteLimit = 4096
  static let byteCount = 4 << 20
  private static let noteStart = 128
  private static let inputStart = noteStart + noteLimit
  private let base: UnsafeMutableRawPointer

  /// Maps the record in the file `path`, made anew where `creates` says so; nil when that fails.
  init?(path: String, creates: Bool) {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | (creates ? O_CREAT | O_TRUNC : 0), 0o600)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    if creates, ftruncate(descriptor, off_t(Self.byteCount)) != 0 { return nil }
    let mapped = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let mapped, mapped != MAP_FAILED else { return nil }
    base = mapped
  }

  deinit { munmap(base, Self.byteCount) }

  subscript(word: Word) -> Int {
    get { base.load(fromByteOffset: 8 * word.rawValue, as: Int.self) }
    set { base.storeBytes(of: newValue, toByteOffset: 8 * word.rawValue, as: Int.self) }
  }

  /// Puts down an input before it is read. What does not fit is left out, and the number still gives it.
  func begin(_ number: Int, _ input: [UInt8]) {
    let count = min(input.count, Self.byteCount - Self.inputStart)
    input.withUnsafeBytes {
      base.advanced(by: Self.inputStart).copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(base), byteCount: count)
    }
    self[.inputBytes] = count
    self[.number] = number
    self[.began] = Record.now
  }

  func end() { self[.began] = 0 }

  /// The last call that a driver of Lua makes, or the message of an unnamed refusal.
  var note: String {
    get {
      String(decoding: UnsafeRawBufferPointer(start: base + Self.noteStart, count: self[.noteBytes]), as: UTF8.self)
    }
    set {
      let text = Array(newValue.utf8.prefix(Self.noteLimit))
      text.withUnsafeBytes { bytes in
        if let from = bytes.baseAddress { (base + Self.noteStart).copyMemory(from: from, byteCount: bytes.count) }
      }
      self[.noteBytes] = text.count
    }
  }

  var input: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + Self.inputStart, count: self[.inputBytes]) }

  /// Nanoseconds of a clock that all processes share.
  static var now: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}
