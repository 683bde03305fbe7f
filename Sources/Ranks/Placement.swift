import Glibc

/// Where the processes of a host compute: the launcher gives each a set of processors, often the same to all, or too
/// few.
public struct Placement: Equatable, Sendable {
  /// The processors that this process is to keep to; nil leaves those that it has.
  public let processors: [Int]?
  /// A sentence for the user where processors lie idle.
  public let warning: String?

  /// Processes of a host that were given the same processors share them out; more of them than processors take turns.
  /// - Parameters:
  ///   - index: the number of this process among those of its host.
  ///   - sets: the processors that each process of the host may use.
  ///   - present: how many processors the host has.
  ///   - host: its name.
  init(_ index: Int, sets: [[Int]], present: Int, host: String) {
    let own = sets[index]
    let sharers = sets.indices.filter { sets[$0] == own }
    if sharers.count > 1, let place = sharers.firstIndex(of: index) {
      let (count, parts) = (own.count, sharers.count)
      processors =
        count < parts
        ? [own[place % max(count, 1)]] : Array(own[place * count / parts..<(place + 1) * count / parts])
    } else {
      processors = nil
    }
    let used = Set(sets.joined()).count
    warning =
      index > 0 || used >= present
      ? nil
      : "\(host): the launcher lets \(sets.count) process\(sets.count == 1 ? "" : "es") use \(used) of \(present) "
        + "processors; Open MPI gives all with --bind-to none, srun with --cpus-per-task"
  }
}

extension Ranks {
  /// Takes this process's share of the processors that the launcher gave to its host.
  /// - Returns: nil when alone or unconnected.
  /// - Throws: as `gather`.
  public func place() throws(RankError) -> Placement? {
    guard size > 1, isConnected else { return nil }
    let own = Self.allowedProcessors
    let sets = try gather(Array((host + "\n" + own.map(String.init).joined(separator: ",")).utf8), at: "placement")
      .map { String(decoding: $0, as: UTF8.self).split(separator: "\n") }
    let here = sets.indices.filter { sets[$0].first.map(String.init) == host }
    guard let index = here.firstIndex(of: rank) else { return nil }
    let placement = Placement(
      index, sets: here.map { sets[$0].last.map { $0.split(separator: ",").compactMap { Int($0) } } ?? [] },
      present: sysconf(Int32(_SC_NPROCESSORS_ONLN)), host: host)
    if let processors = placement.processors { Self.keep(to: processors) }
    return placement
  }

  /// sched_getaffinity and sched_setaffinity, which Glibc's header shows to GNU programs only: a bit for each
  /// processor.
  private typealias Affinity = @convention(c) (Int32, Int, UnsafeMutableRawPointer?) -> Int32

  private static func affinity(_ name: String, _ bytes: inout [UInt8]) -> Bool {
    guard let address = dlsym(nil, name) else { return false }
    return unsafeBitCast(address, to: Affinity.self)(0, bytes.count, &bytes) >= 0
  }

  private static var allowedProcessors: [Int] {
    var bytes = [UInt8](repeating: 0, count: 1024)
    guard affinity("sched_getaffinity", &bytes) else { return [] }
    return bytes.indices.flatMap { byte in (0..<8).filter { bytes[byte] >> $0 & 1 == 1 }.map { 8 * byte + $0 } }
  }

  private static func keep(to processors: [Int]) {
    var bytes = [UInt8](repeating: 0, count: 1024)
    for processor in processors { bytes[processor / 8] |= 1 << (processor % 8) }
    _ = affinity("sched_setaffinity", &bytes)
  }
}
