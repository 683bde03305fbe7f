import Formats
import Glibc

/// Runs the drivers one after the other, each in as many worker processes as there are processors; starts a worker anew
/// that a signal ended, that hung or that outgrew its memory; and keeps the input that did it.
final class Supervisor {
  private let settings: Settings
  private let root: String
  private let scratch: String
  private let began = Record.now
  private var report = Report()

  init(_ settings: Settings) throws {
    self.settings = settings
    root = absolute(settings.root)
    scratch = try Self.scratch("run")
  }

  /// A folder in memory for one process; those of processes that were killed are removed.
  static func scratch(_ name: String) throws -> String {
    let base = FileSystem.isDirectory("/dev/shm") ? "/dev/shm" : "/tmp"
    for old in try FileSystem.list(base) where old.hasPrefix("qlora-fuzz-") {
      if let owner = old.split(separator: "-").dropFirst(2).first.flatMap({ pid_t($0) }), kill(owner, 0) != 0 {
        try? FileSystem.remove("\(base)/\(old)")
      }
    }
    let path = "\(base)/qlora-fuzz-\(getpid())-\(name)"
    try FileSystem.makeDirectory(path)
    return path
  }

  /// - Returns: whether every input was read or refused.
  func run() throws -> Bool {
    defer { try? FileSystem.remove(scratch) }
    let kinds = DriverKind.all.filter { settings.drivers.isEmpty || settings.drivers.contains($0.name) }
    let shares = kinds.reduce(0) { $0 + $1.share }
    for (place, kind) in kinds.enumerated() {
      var end = Int.max
      if settings.inputs != nil || settings.calls != nil {
        end = kind.share == 0 ? settings.calls ?? 0 : (settings.inputs ?? 0) * kind.share / max(1, shares)
      }
      guard end > 0 else { continue }
      // What a driver leaves of its time goes to those after it.
      let left = settings.seconds.map { max(0.5, $0 - seconds(since: began)) / Double(kinds.count - place) }
      report.rows.append(try run(kind, end: end, seconds: left))
      print(report.rows[report.rows.count - 1].line)
    }
    print(report.text(settings, seconds: seconds(since: began)))
    return report.rows.allSatisfy { $0.faults.isEmpty }
  }

  private func seconds(since start: Int) -> Double { Double(Record.now - start) / 1e9 }

  // MARK: One driver

  private func run(_ kind: DriverKind, end: Int, seconds: Double?) throws -> Report.Row {
    let start = Record.now
    let deadline = seconds.map { start + Int($0 * 1e9) } ?? Int.max
    var row = Report.Row(kind: kind)
    let jobs = min(settings.jobs, end)
    var workers: [WorkerProcess] = []
    for job in 0..<jobs {
      workers.append(
        try WorkerProcess(
          kind, settings, root: root, scratch: "\(scratch)/\(kind.name)-\(job)", first: job, stride: jobs, end: end,
          deadline: deadline))
    }
    defer { for worker in workers { worker.stop() } }
    while !workers.isEmpty {
      usleep(10_000)
      for (index, worker) in workers.enumerated().reversed() {
        let state = worker.look(timeout: settings.timeout, memory: settings.memory)
        row.peak = max(row.peak, worker.peak)
        switch state {
        case .running: continue
        case .ended: row.add(worker.record)
        case .failed(let reason):
          row.add(worker.record)
          let number = worker.record[.number]
          row.faults.append(try keep(worker, kind, reason))
          let next = worker.record[.began] == 0 ? end : number + jobs
          if row.faults.count < settings.mostFaults, next < end, Record.now < deadline {
            workers[index] = try worker.again(first: next)
            continue
          }
        }
        workers.remove(at: index)
      }
    }
    row.seconds = self.seconds(since: start)
    return row
  }

  /// Writes the input that ended a worker under Fuzz/crashes, with what the worker said.
  private func keep(_ worker: WorkerProcess, _ kind: DriverKind, _ reason: String) throws -> Report.Fault {
    let record = worker.record
    let place = "Fuzz/crashes/\(kind.name)-\(settings.seed)-\(record[.number])"
    let folder = try Folder("\(root)/\(place)")
    try folder.hold(Input(serialized: record.input))
    let note = kind.share == 0 ? record.note : ""
    let text = "\(reason)\n\(note)\n" + worker.errors
    try AtomicFile.write("\(root)/\(place).txt", text)
    return Report.Fault(place: place, reason: reason + (note.isEmpty ? "" : ": \(note)"))
  }
}
