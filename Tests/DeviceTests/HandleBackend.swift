import Numerics
import Tensors

/// A device written down as plainly as possible, in double precision rounded once: what a backend has to have when it
/// leaves everything else to the default forms in Tensors.
final class HandleBackend: Backend, @unchecked Sendable {
  let name = "handles"
  let memory = MemoryLedger()
  let blocks = DeviceMemory()

  func allocate(byteCount: Int, category: MemoryCategory) throws -> Storage {
    HandleStorage(byteCount: byteCount, category: category, device: self)
  }

  func synchronize() {}

  // MARK: The door

  func read(_ tensor: Tensor, into bytes: UnsafeMutableRawBufferPointer) throws(TensorError) {
    bytes.copyBytes(from: elements(of: tensor))
  }

  func write(_ bytes: UnsafeRawBufferPointer, to tensor: Tensor) throws(TensorError) {
    set(tensor, elements: Array(bytes))
  }

  // MARK: Elements

  /// Bytes of the elements in row-major order, whatever the strides.
  func elements(of tensor: Tensor) -> [UInt8] {
    let (size, handle) = (tensor.dtype.byteCount, handle(tensor))
    let first = tensor.offset * size
    if tensor.isContiguous { return blocks.load(handle, first..<first + tensor.byteCount) }
    let places = places(tensor)
    let covered = blocks.load(handle, first..<first + ((places.max() ?? -1) + 1) * size)
    return places.flatMap { covered[$0 * size..<($0 + 1) * size] }
  }

  func set(_ tensor: Tensor, elements bytes: [UInt8]) {
    let (size, handle) = (tensor.dtype.byteCount, handle(tensor))
    let first = tensor.offset * size
    if tensor.isContiguous { return blocks.store(bytes, handle, at: first) }
    let places = places(tensor)
    var covered = blocks.load(handle, first..<first + ((places.max() ?? -1) + 1) * size)
    for (index, place) in places.enumerated() {
      for byte in 0..<size { covered[place * size + byte] = bytes[index * size + byte] }
    }
    blocks.store(covered, handle, at: first)
  }

  /// Values as doubles, exact for every dtype but large i64.
  func values(_ tensor: Tensor) -> [Double] {
    let (dtype, size) = (tensor.dtype, tensor.dtype.byteCount)
    return elements(of: tensor).withUnsafeBytes { bytes in
      (0..<tensor.elementCount).map { index in
        func load<T>(_: T.Type) -> T { bytes.loadUnaligned(fromByteOffset: index * size, as: T.self) }
        switch dtype {
        case .f32: return Double(load(Float.self))
        case .bf16: return Double(Float(bitPattern: UInt32(load(UInt16.self)) << 16))
        case .f16: return Double(load(Float16.self))
        case .i64: return Double(load(Int64.self))
        case .i32: return Double(load(Int32.self))
        case .u8: return Double(load(UInt8.self))
        }
      }
    }
  }

  func floats(_ tensor: Tensor) -> [Float] { values(tensor).map { Float($0) } }
  func integers(_ tensor: Tensor) -> [Int] { values(tensor).map { Int($0) } }

  /// Stores values, floats rounded to nearest even by way of f32, integers truncated.
  func set(_ tensor: Tensor, _ values: [Double]) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count * tensor.dtype.byteCount)
    func put(_ value: some BitwiseCopyable) { withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) } }
    for value in values {
      switch tensor.dtype {
      case .f32: put(Float(value))
      case .bf16: put(UInt16(truncatingIfNeeded: Float(value).roundedToBF16.bitPattern >> 16))
      case .f16: put(Float16(Float(value)))
      case .i64: put(Int64(value))
      case .i32: put(Int32(value))
      case .u8: put(UInt8(value))
      }
    }
    set(tensor, elements: bytes)
  }

  private func handle(_ tensor: Tensor) -> Int {
    guard let storage = tensor.storage as? HandleStorage else { preconditionFailure("a tensor of another device") }
    return storage.handle
  }

  /// Offsets of the elements from the first.
  private func places(_ tensor: Tensor) -> [Int] {
    zip(tensor.shape, tensor.strides).reduce([0]) { places, axis in
      places.flatMap { place in (0..<axis.0).map { place + $0 * axis.1 } }
    }
  }
}

extension Float {
  var roundedToBF16: Float {
    guard !isNaN else { return self }
    return Float(bitPattern: (bitPattern &+ 0x7FFF &+ ((bitPattern >> 16) & 1)) & 0xFFFF_0000)
  }
}

extension RandomStream {
  func word(_ index: Int) -> UInt32 { Philox.block(UInt64(index / 4), seed: seed, stream: stream)[index % 4] }
}
