import Numerics
import Tensors

/// A block in host memory. Only this module knows where.
class HostStorage: Storage, @unchecked Sendable {
  final let base: UnsafeMutableRawPointer

  init(
    base: UnsafeMutableRawPointer, byteCount: Int, category: MemoryCategory, backend: CPUBackend, file: FileBytes? = nil
  ) {
    self.base = base
    super.init(byteCount: byteCount, category: category, backend: backend, file: file)
  }
}

/// A view of a file's own pages, which are not on the books: they belong to the file.
final class FileStorage: HostStorage, @unchecked Sendable {
  init(_ file: FileBytes, backend: CPUBackend) {
    // Without bytes nothing is ever read, and any aligned address will do.
    let base = UnsafeMutableRawPointer(mutating: file.bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 64)!)
    super.init(base: base, byteCount: file.bytes.count, category: .weights, backend: backend, file: file)
  }
}

extension Tensor {
  /// Address of the first element. A tensor of another device ends the program: callers have refused it.
  @inline(__always)
  var address: UnsafeMutableRawPointer {
    // The first comparison is of two addresses and decides nearly always; the cast calls the runtime.
    precondition(
      Swift.type(of: storage) == BlockStorage.self || storage is HostStorage,
      "a tensor of another device was given to the CPU")
    return unsafeDowncast(storage, to: HostStorage.self).base + offset * dtype.byteCount
  }

  @inline(__always) var floatAddress: UnsafeMutablePointer<Float> { address.assumingMemoryBound(to: Float.self) }
  @inline(__always) var idAddress: UnsafeMutablePointer<Int32> { address.assumingMemoryBound(to: Int32.self) }
  @inline(__always) var byteAddress: UnsafeMutablePointer<UInt8> { address.assumingMemoryBound(to: UInt8.self) }
  var type: Int32 { dtype.rawValue }
}

/// Addresses for worker closures; every chunk touches elements of its own.
struct Shared<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

/// The addresses of a 4-bit weight as kernels take them, made once for each weight.
private final class QuantizedAddresses {
  let pointers: UnsafeMutablePointer<QuantizedWeightPointers>

  init(_ weight: QuantizedOperand) {
    func floats(_ tensor: Tensor) -> UnsafePointer<Float> { UnsafePointer(tensor.floatAddress) }
    func bytes(_ tensor: Tensor) -> UnsafePointer<UInt8> { UnsafePointer(tensor.byteAddress) }
    let (absmax, nested) = (weight.absmax, weight.nested)
    pointers = .allocate(capacity: 1)
    pointers.initialize(
      to: QuantizedWeightPointers(
        codes: bytes(weight.codes), out: weight.shape[0], in: weight.shape.dropFirst().reduce(1, *),
        blockSize: weight.blockSize, codebook: floats(weight.codebook), absmax: nested == nil ? floats(absmax) : nil,
        absmaxCodes: nested == nil ? nil : bytes(absmax), nestedAbsmax: nested.map { floats($0.absmax) },
        nestedMap: nested.map { floats($0.map) }, offset: nested?.offset ?? 0,
        nestedBlockSize: nested?.blockSize ?? 256))
  }

  deinit { pointers.deallocate() }
}

extension QuantizedOperand {
  /// Its addresses, valid as long as this object.
  var pointers: UnsafePointer<QuantizedWeightPointers> {
    UnsafePointer(unsafeDowncast(deviceForm { QuantizedAddresses(self) }, to: QuantizedAddresses.self).pointers)
  }
}

/// The addresses of a weight in a block format as kernels take them, made once for each weight.
private final class BlockAddresses {
  let pointers: UnsafeMutablePointer<BlockWeightPointers>
  private let order: UnsafeMutableBufferPointer<Int32>?

  init(_ weight: BlockOperand) {
    var (format, partner, scales) = (Int32(weight.format.rawValue), nil as Tensor?, nil as Tensor?)
    var copy: UnsafeMutableBufferPointer<Int32>?
    switch weight.rows {
    case .inOrder: break
    case .reordered(let rows):
      let all = UnsafeMutableBufferPointer<Int32>.allocate(capacity: rows.count)
      _ = all.initialize(from: rows)
      copy = all
    case .alternating(let other): partner = other
    case .scaledApart(let other): (format, scales) = (BlockWeightPointers.apart, other)
    }
    order = copy
    pointers = .allocate(capacity: 1)
    pointers.initialize(
      to: BlockWeightPointers(
        bytes: UnsafePointer(weight.bytes.byteAddress), out: weight.shape[0], in: weight.shape[1],
        format: format, pitch: weight.pitch, order: UnsafePointer(order?.baseAddress),
        partner: partner.map { UnsafePointer($0.byteAddress) }, scales: scales.map { UnsafePointer($0.byteAddress) }))
  }

  deinit {
    pointers.deallocate()
    order?.deallocate()
  }
}

extension BlockOperand {
  /// Its addresses, valid as long as this object.
  var pointers: UnsafePointer<BlockWeightPointers> {
    UnsafePointer(unsafeDowncast(deviceForm { BlockAddresses(self) }, to: BlockAddresses.self).pointers)
  }
}
