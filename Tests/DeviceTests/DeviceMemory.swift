import Synchronization
import Tensors

/// Memory that the host cannot dereference: blocks of bytes behind numbers, copied in and out.
final class DeviceMemory: Sendable {
  private struct Table {
    var next = 1
    var blocks: [Int: [UInt8]] = [:]
  }

  private let table = Mutex(Table())

  /// A block of ones, which as floats are NaN: what is used before it is written shows.
  func allocate(_ byteCount: Int) -> Int {
    table.withLock { table in
      table.next += 1
      table.blocks[table.next] = Array(repeating: 0xFF, count: byteCount)
      return table.next
    }
  }

  func free(_ handle: Int) { table.withLock { $0.blocks[handle] = nil } }

  func load(_ handle: Int, _ range: Range<Int>) -> [UInt8] {
    table.withLock { Array($0.blocks[handle, default: []][range]) }
  }

  func store(_ bytes: [UInt8], _ handle: Int, at offset: Int) {
    table.withLock { $0.blocks[handle, default: []].replaceSubrange(offset..<offset + bytes.count, with: bytes) }
  }

  var blockCount: Int { table.withLock { $0.blocks.count } }
}

/// A block of a `HandleBackend`: nothing but a number.
final class HandleStorage: Storage, @unchecked Sendable {
  let handle: Int
  private let device: HandleBackend

  init(byteCount: Int, category: MemoryCategory, device: HandleBackend) {
    self.device = device
    handle = device.blocks.allocate(byteCount)
    device.memory.charge(byteCount, category)
    super.init(byteCount: byteCount, category: category, backend: device)
  }

  deinit {
    device.blocks.free(handle)
    device.memory.refund(byteCount, category)
  }
}
