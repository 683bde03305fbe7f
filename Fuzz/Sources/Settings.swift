import Glibc

/// What the command line asks for.
struct Settings {
  enum Command {
    case run
    /// A worker of a run: reads the numbers from `first` in steps of `stride`.
    case worker(driver: String, first: Int, stride: Int, end: Int, deadline: Int, scratch: String)
    /// Reads one kept input.
    case replay(path: String)
    /// Writes what the seeds of a driver become, to look at.
    case show(number: Int)
  }
  var command = Command.run
  var seed: UInt64 = 1
  /// Inputs over all readers, shared among them; nil where only time limits the run.
  var inputs: Int?
  /// Hostile calls of the Lua API.
  var calls: Int?
  var seconds: Double?
  var jobs = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  /// The names of the drivers; empty for all.
  var drivers: [String] = []
  /// Seconds after which an input counts as a hang.
  var timeout = 10.0
  /// Most bytes of a worker.
  var memory = 1 << 30
  /// A driver that has ended this often is left.
  var mostFaults = 20
  /// Whether the build has the address sanitizer, whose shadow is no memory of the engine.
  var isSanitized = false
  var root = "."

  static let usage = """
    usage: fuzz [--seed N] [--inputs N] [--calls N] [--seconds N] [--jobs N] [--drivers a,b] [--timeout S]
                [--memory-mb N] [--most-faults N] [--sanitized]
           fuzz --replay FOLDER     reads a kept input again (Fuzz/crashes/DRIVER-SEED-NUMBER)
           fuzz --drivers a --show N   writes input N of a driver under Fuzz/crashes
    drivers: \(DriverKind.all.map(\.name).joined(separator: " "))
    """

  /// - Throws: `UsageError`.
  init(_ arguments: [String]) throws {
    var rest = arguments[...]
    func text(_ flag: String) throws -> String {
      guard let value = rest.popFirst() else { throw UsageError(description: "\(flag) needs a value") }
      return value
    }
    func number(_ flag: String, atLeast least: Int = 1) throws -> Int {
      let value = try text(flag)
      guard let number = Int(value), number >= least else {
        throw UsageError(description: "\(flag) is \(value), expected a number of at least \(least)")
      }
      return number
    }
    while let flag = rest.popFirst() {
      switch flag {
      case "--seed": seed = UInt64(try number(flag, atLeast: 0))
      case "--inputs": inputs = try number(flag, atLeast: 0)
      case "--calls": calls = try number(flag, atLeast: 0)
      case "--seconds": seconds = Double(try number(flag))
      case "--jobs": jobs = try number(flag)
      case "--drivers": drivers = try text(flag).split(separator: ",").map(String.init)
      case "--timeout": timeout = Double(try number(flag))
      case "--memory-mb": memory = try number(flag) << 20
      case "--most-faults": mostFaults = try number(flag)
      case "--sanitized": isSanitized = true
      case "--root": root = try text(flag)
      case "--replay": command = .replay(path: try text(flag))
      case "--show": command = .show(number: try number(flag, atLeast: 0))
      case "--worker":
        command = .worker(
          driver: try text(flag), first: try number(flag, atLeast: 0), stride: try number(flag),
          end: try number(flag, atLeast: 0), deadline: try number(flag, atLeast: 0), scratch: try text(flag))
      default: throw UsageError(description: "unknown flag \(flag)")
      }
    }
    for name in drivers where !DriverKind.all.contains(where: { $0.name == name }) {
      throw UsageError(description: "no driver \(name); there are \(DriverKind.all.map(\.name).joined(separator: " "))")
    }
    if inputs == nil, calls == nil, seconds == nil { seconds = 60 }
  }
}

struct UsageError: Error, CustomStringConvertible { let description: String }
