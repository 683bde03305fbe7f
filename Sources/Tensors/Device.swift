/// A kind of device that a program can compute on: a row of its registry, which lists the devices that are there.
package struct Device: Sendable {
  /// As recipes name it, for example `cpu`.
  package let name: String
  /// Makes a backend. A thread count of nil leaves the choice to the device.
  package let open: @Sendable (_ threadCount: Int?) -> any Backend
  /// Makes a backend that goes through computations as the given one would, and computes nothing.
  package let rehearse: @Sendable (_ backend: any Backend) -> any RehearsalBackend

  package init(
    name: String, open: @escaping @Sendable (_ threadCount: Int?) -> any Backend,
    rehearse: @escaping @Sendable (_ backend: any Backend) -> any RehearsalBackend
  ) {
    self.name = name
    self.open = open
    self.rehearse = rehearse
  }
}

extension Backend {
  /// By default the name of the device.
  public var kernelName: String { name }
  /// True: what computes beside the processor has such products.
  public var multipliesBFloat16: Bool { true }
  /// 1: the device has workers of its own.
  public var threadCount: Int { 1 }
  /// By default the live bytes of the ledger.
  public var residentByteCount: Int { memory.total }

  /// Refuses any number.
  /// - Throws: `TensorError.unsupported` always.
  public func setThreadCount(_ count: Int) throws(TensorError) {
    throw .unsupported(device: name, operation: "another number of threads")
  }
}

extension Backend {
  /// `sumOfSquares` of contiguous tensors, read back.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func sumOfSquares(_ tensors: [Tensor]) throws -> Double {
    let sum = try Tensor(empty: [1], dtype: .i64, category: .workspace, on: self)
    try sumOfSquares(tensors, into: sum)
    return try sum.doubles()[0]
  }
}

extension Tensor {
  /// The backend of this tensor, which must be that of the others too: a backend cannot reach the memory of another.
  /// - Throws: `otherDevice`.
  package func backend(
    for operation: String, with a: Tensor? = nil, _ b: Tensor? = nil, _ c: Tensor? = nil
  ) throws(TensorError) -> any Backend {
    func check(_ other: Tensor?) throws(TensorError) {
      if let other, other.storage.backend !== storage.backend {
        throw .otherDevice(operation: operation, lhs: backend.name, rhs: other.backend.name)
      }
    }
    try check(a)
    try check(b)
    try check(c)
    return backend
  }
}
