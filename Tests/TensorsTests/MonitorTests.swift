import Foundation
import Testing

@testable import Tensors

@Suite struct MonitorTests {
  /// What the threads share.
  private final class Box: @unchecked Sendable {
    let monitor = Monitor()
    var values: [Int] = []
    var sum = 0
    var ended = 0
  }

  /// Every value that one thread gives is taken once by one of four, and all end.
  @Test func whatIsGivenIsTakenOnce() {
    let box = Box()
    let (takers, count) = (4, 2_000)
    for _ in 0..<takers {
      Thread.detachNewThread {
        while true {
          let value = box.monitor.locked {
            while box.values.isEmpty { box.monitor.wait() }
            return box.values.removeLast()
          }
          box.monitor.locked {
            if value < 0 { box.ended += 1 } else { box.sum += value }
            if value < 0 { box.monitor.broadcast() }
          }
          if value < 0 { return }
        }
      }
    }
    for value in 1...count {
      box.monitor.locked {
        box.values.insert(value, at: 0)
        box.monitor.signal()
      }
    }
    // The last are taken last: values are taken from the end.
    box.monitor.locked {
      box.values.insert(contentsOf: Array(repeating: -1, count: takers), at: 0)
      box.monitor.broadcast()
      while box.ended < takers { box.monitor.wait() }
      #expect(box.sum == count * (count + 1) / 2 && box.values.isEmpty)
    }
  }

  /// The lock is given back when the body throws.
  @Test func aBodyThatThrowsGivesTheLockBack() {
    let monitor = Monitor()
    #expect(throws: TensorError.interrupted) { try monitor.locked { throw TensorError.interrupted } }
    #expect(monitor.locked { true })
  }
}
