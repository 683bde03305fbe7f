/// How far a download is.
package struct FetchProgress: Sendable, Equatable {
  package var name: String
  package var fileCount: Int
  /// Bytes that are there, and those of all files.
  package var done: Int
  package var total: Int
  /// Bytes a second, over the last seconds; 0 while that is not known.
  package var rate: Double
  /// The process that brings what is waited for.
  package var waitingFor: String?
  package var isEnd = false
  /// What was not there before.
  package var fetched: Int
  package var seconds: Double

  /// One line: what, how much, how fast, and how long it still takes.
  package var line: String {
    let amount = "\(Self.size(Double(done))) of \(Self.size(Double(total)))"
    if isEnd {
      if fetched <= 0 { return "\(name): \(Self.files(fileCount)), \(Self.size(Double(total))), all in the cache" }
      let rate = seconds > 0 ? Double(fetched) / seconds : 0
      return "\(name): \(Self.files(fileCount)), \(Self.size(Double(total))) in \(Self.time(seconds))"
        + ", \(Self.size(rate))/s"
    }
    if let waitingFor { return "\(name): \(amount), waiting for \(waitingFor)" }
    let percent = total > 0 ? min(100, done * 100 / total) : 100
    let left = rate > 0 ? ", \(Self.size(rate))/s, \(Self.time(Double(total - done) / rate)) left" : ""
    return "\(name): \(percent) %, \(amount)\(left)"
  }

  private static func files(_ count: Int) -> String { count == 1 ? "1 file" : "\(count) files" }

  static func size(_ bytes: Double) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"]
    var (value, unit) = (bytes, 0)
    while value >= 999.5, unit + 1 < units.count { (value, unit) = (value / 1000, unit + 1) }
    let tenths = (value * 10).rounded()
    return unit == 0 || tenths >= 1000
      ? "\(Int(value.rounded())) \(units[unit])" : "\(Int(tenths) / 10).\(Int(tenths) % 10) \(units[unit])"
  }

  static func time(_ seconds: Double) -> String {
    let whole = Int(min(seconds, 1e7).rounded(.up))
    let (minutes, rest) = (whole / 60, whole % 60)
    let two = { (number: Int) in (number < 10 ? "0" : "") + "\(number)" }
    return minutes < 60 ? "\(minutes):\(two(rest))" : "\(minutes / 60):\(two(minutes % 60)):\(two(rest))"
  }
}

/// Makes reports of counts, a few a second.
struct Meter {
  let name: String
  let fileCount: Int
  let total: Int
  private var marks: [(time: Double, done: Int)] = []
  private var last = 0.0
  private let start = Clock.now
  private var first: Int?
  private var done = 0

  init(name: String, fileCount: Int, total: Int) { (self.name, self.fileCount, self.total) = (name, fileCount, total) }

  /// - Returns: a report where the last one is a while ago.
  mutating func update(_ done: Int, waitingFor: String?) -> FetchProgress? {
    let now = Clock.now
    first = first ?? done
    self.done = done
    guard now - last >= 0.2 else { return nil }
    last = now
    marks.append((now, done))
    // A window of five seconds; bytes that were thrown away do not count.
    marks.removeAll { now - $0.time > 5 || $0.done > done }
    let rate = marks.count > 1 ? Double(done - marks[0].done) / max(1e-3, now - marks[0].time) : 0
    return report(rate, waitingFor, isEnd: false)
  }

  func end() -> FetchProgress { report(0, nil, isEnd: true) }

  private func report(_ rate: Double, _ waitingFor: String?, isEnd: Bool) -> FetchProgress {
    FetchProgress(
      name: name, fileCount: fileCount, done: isEnd ? total : done, total: total, rate: rate, waitingFor: waitingFor,
      isEnd: isEnd, fetched: isEnd ? total - (first ?? total) : done - (first ?? done), seconds: Clock.now - start)
  }
}
