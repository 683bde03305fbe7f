import Tensors

/// Keeps the inputs of checkpointed layers in a spill file between the forward and the backward pass.
///
/// An input is written while its layer computes and leaves memory when the next one is saved, so that at most two are
/// there. The backward pass asks for them in reverse order, and the one before is read while a layer is recomputed.
public final class ActivationStore {
  private let file: SpillFile?
  private let thread: RequestThread?
  /// What is saved and not yet given up, in the order of the forward pass.
  private var saved: [Weak] = []
  /// Where the next one goes; the file is used again from its start once nothing in it is needed.
  private var end = 0
  private weak var previous: StoredActivation?
  /// Most bytes that the file held at once.
  public private(set) var peakByteCount = 0

  private struct Weak { weak var stored: StoredActivation? }

  /// A store with a spill file in a directory.
  /// - Throws: `TensorError.spillFailed`, `.noThread`.
  public init(directory: String) throws {
    file = try SpillFile(directory: directory, content: .activations)
    thread = try RequestThread()
  }

  /// A store for rehearsals: blocks come and go as they would, and nothing is written.
  public init() { (file, thread) = (nil, nil) }

  /// Bytes written to the file so far; 0 in a rehearsal.
  public var writtenByteCount: Int { file?.writtenByteCount ?? 0 }
  /// Bytes read from the file so far; 0 in a rehearsal.
  public var readByteCount: Int { file?.readByteCount ?? 0 }

  /// Starts writing a tensor, which must not change any more.
  /// - Throws: what went wrong with the write before; that tensor is still in memory.
  func save(_ tensor: Tensor) throws -> StoredActivation {
    saved.removeAll { $0.stored == nil }
    if saved.isEmpty { end = 0 }
    try previous?.leaveMemory()
    let source = try tensor.contiguous()
    let stored = StoredActivation(source, at: end, in: self)
    end += source.byteCount
    peakByteCount = max(peakByteCount, end)
    stored.write(file, thread)
    saved.append(Weak(stored: stored))
    previous = stored
    return stored
  }

  /// The tensor again, and starts reading the one that was saved before it.
  fileprivate func load(_ stored: StoredActivation) throws -> Tensor {
    let position = saved.lastIndex { $0.stored === stored }
    let tensor = try stored.memory(file, thread)
    if let position, position > 0 { try saved[position - 1].stored?.readAhead(file, thread) }
    return tensor
  }
}

/// A tensor in a `ActivationStore`.
final class StoredActivation {
  private let store: ActivationStore
  private let shape: [Int]
  private let dtype: DType
  private let backend: any Backend
  private let offset: Int
  /// The values while they are in memory.
  private var tensor: Tensor?
  private var writing: PendingRequest?
  private var reading: PendingRequest?
  private let checksum = Checksum()

  /// Set by the thread that writes; read after its request has ended.
  private final class Checksum: @unchecked Sendable { var value: UInt64 = 0 }

  fileprivate init(_ tensor: Tensor, at offset: Int, in store: ActivationStore) {
    (self.tensor, self.offset, self.store) = (tensor, offset, store)
    (shape, dtype, backend) = (tensor.shape, tensor.dtype, tensor.backend)
  }

  func load() throws -> Tensor { try store.load(self) }

  fileprivate func write(_ file: SpillFile?, _ thread: RequestThread?) {
    guard let file, let thread, let tensor else { return }
    backend.synchronize()
    writing = thread.start { [checksum, offset] () throws(TensorError) in
      checksum.value = try file.write(tensor, at: offset)
    }
  }

  /// Waits for the write and gives the memory up.
  fileprivate func leaveMemory() throws {
    try writing?.wait()
    writing = nil
    tensor = nil
  }

  fileprivate func readAhead(_ file: SpillFile?, _ thread: RequestThread?) throws {
    guard tensor == nil else { return }
    let target = try Tensor(empty: shape, dtype: dtype, on: backend)
    tensor = target
    guard let file, let thread else { return }
    reading = thread.start { [checksum, offset] () throws(TensorError) in
      try file.read(into: target, at: offset, checksum: checksum.value)
    }
  }

  /// The values, which whoever asked for them now holds.
  fileprivate func memory(_ file: SpillFile?, _ thread: RequestThread?) throws -> Tensor {
    try readAhead(file, thread)
    try reading?.wait()
    reading = nil
    guard let tensor else { throw TensorError.graphConsumed(operation: "backward") }
    return tensor
  }
}
