import CPUBackend
import Glibc
import Tensors

/// Seconds of the monotonic clock.
func seconds() -> Double {
  var t = timespec()
  clock_gettime(CLOCK_MONOTONIC, &t)
  return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}

/// What one run of the program measures with and prints to.
struct Bench {
  let backend: CPUBackend
  let wanted: String
  let isJSON: Bool
  /// Time spent on one row.
  let budget: Double
  let rows = Counter()

  final class Counter { var count = 0 }

  /// Whether a row, or a group of rows that begin with `name`, is asked for.
  func wants(_ name: String) -> Bool { wanted.isEmpty || name.contains(wanted) || wanted.hasPrefix(name) }

  /// Seconds of the fastest run, after one that warms up.
  func best(_ body: () throws -> Void) rethrows -> Double {
    try body()
    var best = Double.infinity
    let end = seconds() + budget
    repeat {
      let start = seconds()
      try body()
      best = min(best, seconds() - start)
    } while seconds() < end
    return best
  }

  /// Measures `body` and prints one row: `work` units (for example 1e9 FLOP) per second, and the share of `limit`.
  func row(_ name: String, work: Double, unit: String, limit: Double? = nil, _ body: () throws -> Void) rethrows {
    guard wants(name) else { return }
    rows.count += 1
    let time = try best(body)
    print(name, rate: work / time, unit: unit, limit: limit)
  }

  /// Measures `body` and `other` in turns and prints how many times as fast `body` is: the median of the ratios of
  /// neighbouring calls.
  func share(_ name: String, unit: String, _ body: () throws -> Void, of other: () throws -> Void) rethrows {
    guard wants(name) else { return }
    rows.count += 1
    try body()
    try other()
    func time(_ call: () throws -> Void) rethrows -> Double {
      let start = seconds()
      try call()
      return seconds() - start
    }
    var ratios: [Double] = []
    let end = seconds() + budget
    repeat {
      let before = try time(other)
      let own = try time(body)
      ratios.append(try (before + time(other)) / 2 / own)
    } while seconds() < end || ratios.count < 9
    print(name, rate: ratios.sorted()[ratios.count / 2], unit: unit)
  }

  func print(_ name: String, rate: Double, unit: String, limit: Double? = nil) {
    if isJSON {
      let share = limit.map { ", \"limit\": \($0)" } ?? ""
      Swift.print("{\"name\": \"\(name)\", \"rate\": \(rate), \"unit\": \"\(unit)\"\(share)}")
    } else {
      let share = limit.map { "\(Int((100 * rate / $0).rounded())) %" } ?? ""
      Swift.print("| \(name) | \(rounded(rate)) \(unit) | \(share) |")
    }
    fflush(nil)
  }

  private func rounded(_ x: Double) -> String {
    x >= 100 ? "\(Int(x.rounded()))" : "\((x * 100).rounded() / 100)"
  }

  // MARK: Operands

  /// Values between -0.5 and 0.5.
  func tensor(_ shape: [Int], _ dtype: DType = .f32) throws -> Tensor {
    let x = try Tensor(empty: shape, dtype: dtype, on: backend)
    try backend.fillUniform(x, low: -0.5, high: 0.5, stream: RandomStream(seed: 1, stream: UInt64(shape[0])))
    return x
  }
}
