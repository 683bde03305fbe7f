@preconcurrency import Glibc

exit(start(Array(CommandLine.arguments.dropFirst())))

/// Does what the arguments ask.
/// - Returns: the exit code: 0 where nothing crashed, hung or outgrew its memory; 1 where something did; 2 for wrong
///   arguments.
func start(_ arguments: [String]) -> Int32 {
  setvbuf(stdout, nil, _IOLBF, 0)
  let settings: Settings
  do {
    settings = try Settings(arguments)
  } catch {
    fputs("fuzz: \(error)\n\(Settings.usage)\n", stderr)
    return 2
  }
  do {
    switch settings.command {
    case .run: return try Supervisor(settings).run() ? 0 : 1
    case .worker(let driver, let first, let stride, let end, let deadline, let scratch):
      limitResources(settings)
      let place = Place(
        root: settings.root, memory: settings.memory / 8, record: Record(path: scratch + "/record", creates: false))
      try Worker(
        kind: kind(driver), seed: settings.seed, first: first, stride: stride, end: end, deadline: deadline,
        scratch: scratch, place: place
      ).run()
    case .replay(let path): try replay(path, settings)
    case .show(let number): try show(number, settings)
    }
    return 0
  } catch {
    fputs("fuzz: \(error)\n", stderr)
    return 1
  }
}

private func kind(_ name: String) throws -> DriverKind {
  guard let kind = DriverKind.all.first(where: { $0.name == name }) else {
    throw UsageError(description: "no driver \(name)")
  }
  return kind
}

/// No dumps of memory, and no address space without bound: a request that cannot be met fails at once.
private func limitResources(_ settings: Settings) {
  var none = rlimit(rlim_cur: 0, rlim_max: 0)
  setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
  guard !settings.isSanitized else { return }
  let bytes = rlim_t(settings.memory * 4)
  var space = rlimit(rlim_cur: bytes, rlim_max: bytes)
  setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &space)
}

/// Reads an input that a run has kept: the folder's name says driver, seed and number.
private func replay(_ path: String, _ settings: Settings) throws {
  let name = path.split(separator: "/").last.map(String.init) ?? path
  let parts = name.split(separator: "-")
  let worker = Worker(
    kind: try kind(settings.drivers.first ?? String(parts[0])),
    seed: parts.count > 1 ? UInt64(parts[1]) ?? settings.seed : settings.seed,
    first: parts.count > 2 ? Int(parts[2]) ?? 0 : 0, stride: 1, end: 1, deadline: .max,
    scratch: try Supervisor.scratch("replay"), place: Place(root: absolute(settings.root), memory: 1 << 27, record: nil)
  )
  try worker.replay(try Input(path: absolute(path)))
}

/// Writes input `number` of the first driver named.
private func show(_ number: Int, _ settings: Settings) throws {
  let kind = try kind(settings.drivers.first ?? "")
  let root = absolute(settings.root)
  let (_, corpus) = try kind.make(
    try Supervisor.scratch("show"), Place(root: root, memory: 1 << 27, record: nil))
  var random = Random(driver: kind.name, seed: settings.seed, number: number)
  let folder = try Folder("\(root)/Fuzz/crashes/\(kind.name)-\(settings.seed)-\(number)")
  try folder.hold(corpus.input(&random))
  print(folder.path)
}

/// Drivers change the folder they work in.
func absolute(_ path: String) -> String {
  guard let resolved = realpath(path, nil) else { return path }
  defer { free(resolved) }
  return String(cString: resolved)
}
