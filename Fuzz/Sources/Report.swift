import CPUBackend
import Glibc

/// The figures of a run, as docs/reliability.md shows them.
struct Report {
  struct Fault {
    let place: String
    let reason: String
  }

  struct Row {
    let kind: DriverKind
    var inputs = 0, accepted = 0, refused = 0, unnamed = 0, peak = 0
    var seconds = 0.0
    var faults: [Fault] = []
    /// A refusal that does not name the file.
    var example = ""

    init(kind: DriverKind) { self.kind = kind }

    mutating func add(_ record: Record) {
      inputs += record[.done] + (record[.began] == 0 ? 0 : 1)
      accepted += record[.accepted]
      refused += record[.refused]
      unnamed += record[.unnamed]
      if kind.namesFiles, record[.unnamed] > 0 { example = record.note }
    }

    var crashes: Int { faults.count { $0.reason.hasPrefix("signal") || $0.reason.hasPrefix("exit") } }
    var hangs: Int { faults.count { $0.reason.hasPrefix("no end") } }
    var outgrown: Int { faults.count { $0.reason.hasPrefix("memory") } }

    var line: String {
      let cells = [
        kind.name, kind.reads, "\(inputs)", "\(accepted)", "\(refused)", kind.namesFiles ? "\(unnamed)" : "-",
        "\(crashes)", "\(hangs)", "\(outgrown)", "\(peak >> 20)", "\(Int(seconds.rounded()))",
      ]
      return "| " + cells.joined(separator: " | ") + " |"
    }
  }

  var rows: [Row] = []

  /// The table, the conditions of the run, and where the inputs of faults are kept.
  func text(_ settings: Settings, seconds: Double) -> String {
    var lines = [
      "",
      "| driver | reads | inputs | read | refused | file not named | crashes | hangs | too much memory | peak "
        + "MiB | s |",
      "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += rows.map(\.line)
    let inputs = rows.reduce(0) { $0 + $1.inputs }
    lines.append("")
    lines.append(
      "\(inputs) inputs in \(Int(seconds.rounded())) s, seed \(settings.seed), \(settings.jobs) workers, "
        + "\(Int(settings.timeout)) s an input, \(settings.memory >> 20) MiB a worker"
        + (settings.isSanitized ? ", address sanitizer" : "") + ", \(Processor.name)")
    for row in rows {
      if !row.example.isEmpty { lines.append("not named by \(row.kind.name), input \(row.example.prefix(300))") }
      for fault in row.faults { lines.append("\(fault.place): \(fault.reason.prefix(300))") }
    }
    return lines.joined(separator: "\n")
  }
}
