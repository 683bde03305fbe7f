import CPUBackend
import Formats
import Glibc
import LuaRuntime
import Ranks
import Tensors
import Training

/// What the command line asked for, visible to recipes as `qlora.native.options`.
package struct RunOptions: Sendable {
  package var overrides: [(key: String, value: String)] = []
  /// `--resume` alone is an empty string, else the directory.
  package var resume: String?
  /// What `--resume` may find changed, by name.
  package var acceptedChanges: [String] = []
  package var plan = false
  package var smoke = false
  package var memoryLimit: Int?
  package var threads: Int?
  package var seed: Int?
  package var quiet = false
  package var script: String?

  package init() {}
}

/// What a terminal gave for a line.
package enum TerminalLine: Sendable {
  case text(String)
  /// Ctrl-C at the line.
  case interrupted
  case end
}

/// The program state that native functions share: the backend, made on first use, and the run's options.
package final class Engine {
  package let options: RunOptions
  /// Directory that holds `stdlib`, `recipes` and `models`.
  package let resourceRoot: String
  /// The devices of this machine; the first is what recipes compute on that name none.
  let devices: [Device] = [.cpu]
  /// The backends in use, by the names of their devices.
  private var backends: [String: any Backend] = [:]
  private lazy var ownBackend: any Backend = backend(on: devices[0])
  /// Where new tensors are: on the first device, in a scripted adapter where its pass is computed.
  package var backend: any Backend { script?.backend ?? ownBackend }
  /// The function of a scripted adapter that is running.
  var script: ScriptCall?
  package var seed: UInt64
  /// The processes that the launcher started.
  let ranks: Ranks
  /// Those that work with this one now: nobody while each computes something of its own.
  var team: Ranks
  /// Whether the program did anything that ranks share.
  var sharesWork = false
  /// The directories that this program has taken, by their paths.
  var locks: [String: FileLock] = [:]
  /// Where spill files go that name no directory of their own: the disk of the run once there is one.
  var spillDirectory = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
  /// Opens a prompt inside a running step; returns whether to go on. Nil where no terminal is.
  package var breakPrompt: ((LuaValue) throws -> Bool)?
  /// Reads a line from the terminal with editing and history. Nil where no terminal is.
  package var readLine: ((_ prompt: String) -> TerminalLine)?
  /// See `scratch()`.
  var madeScratch: Scratch?
  /// Whether a sandbox confines the program.
  var isConfined = false
  /// Models that recipes hold, for the names of their parameters.
  var models: [WeakModel] = []
  let program = ProgramMemory()
  /// What the program held at the first plan of a header: the levers of one plan are compared on the same footing.
  var programByteCount: Int?
  var machineSpeed: MachineSpeed?
  /// Random tensors drawn so far, which keys their streams.
  var randomDraws = 0

  /// Whether the backend can be what the environment asks for, before anything runs.
  /// - Throws: `InstructionSetError` for a `QLORA_ISA` that is no instruction set of this processor.
  package static func checkEnvironment() throws { _ = try InstructionSet.requested() }

  package init(options: RunOptions, resourceRoot: String, ranks: Ranks = .alone) {
    self.options = options
    (self.ranks, team) = (ranks, ranks)
    self.resourceRoot = resourceRoot
    self.seed = UInt64(bitPattern: Int64(options.seed ?? 0))
    Interruption.isRequested = { LuaState.isStopping }
  }

  /// The backend of a device, made on first use.
  func backend(on device: Device) -> any Backend {
    if let backend = backends[device.name] { return backend }
    let backend = device.open(options.threads)
    // Without --memory a request beyond the machine is an error too, not a case for the kernel's killer.
    backend.memory.limit = memoryLimit
    backend.memory.measure(program: program.byteCount)
    backends[device.name] = backend
    return backend
  }

  /// The most the process may have: `--memory`, else what the machine or its control group has.
  private(set) lazy var memoryLimit = options.memoryLimit ?? ProcessMemory.available

  /// The books of the first device once it is in use.
  var openedMemory: MemoryLedger? { backends[devices[0].name]?.memory }

  /// A tensor as a Lua value, its bytes told to the collector.
  func value(_ tensor: Tensor, _ state: LuaState) -> LuaValue {
    if script == nil { state.account(byteCount: tensor.byteCount, live: backend.memory.total) }
    return .object(tensor)
  }

  func nextStream(_ purpose: String) -> RandomStream {
    if let stream = script?.nextStream() { return stream }
    randomDraws += 1
    return RandomStream(seed: seed, purpose: purpose, step: randomDraws)
  }
}

extension LuaState {
  /// JSON as Lua values; null is an absent key, or nil.
  func value(_ json: JSON) -> LuaValue {
    switch json {
    case .null: return .nil
    case .bool(let flag): return .bool(flag)
    case .int(let number): return .integer(number)
    case .number(let number): return .number(number)
    case .string(let text): return .string(text)
    case .array(let elements): return .table(list(elements.map { value($0) }))
    case .object(let object):
      let table = newTable()
      for (key, member) in object { table[key] = value(member) }
      return .table(table)
    }
  }

  /// Lua values as JSON: a table with elements 1...n and nothing else is an array, an empty one an object.
  /// - Throws: `BindingError.invalid` for functions, objects, mixed tables and depth over 100.
  func json(_ value: LuaValue, function: String, depth: Int = 0) throws -> JSON {
    switch value {
    case .nil: return .null
    case .bool(let flag): return .bool(flag)
    case .integer(let number): return .int(number)
    case .number(let number): return .number(number)
    case .string(let text): return .string(text)
    case .table(let table):
      try checkMemory()
      guard depth < 100 else { throw BindingError.invalid(function: function, message: "table nested too deeply") }
      let pairs = table.pairs
      let count = table.count
      if count > 0, pairs.count == count {
        return .array(try table.elements.map { try json($0, function: function, depth: depth + 1) })
      }
      var members: [(String, JSON)] = []
      for (key, member) in pairs {
        guard let name = key.asString else {
          throw BindingError.invalid(function: function, message: "a table mixes names and numbers as keys")
        }
        members.append((name, try json(member, function: function, depth: depth + 1)))
      }
      return .object(JSONObject(members.sorted { $0.0 < $1.0 }))
    default:
      throw BindingError.invalid(function: function, message: "a \(value.typeName) cannot be stored")
    }
  }
}
