import Formats
import Tensors

/// Keeps one matrix of a base that lies in a file in memory: it is dropped when the next is asked for.
///
/// For passes in which each matrix takes far longer than reading it, as when adapters are merged into it. A training
/// step reads ahead instead (`WeightStream`).
package final class MatrixWindow {
  private let memory: MemoryLedger
  private let byteCount: Int
  private var pages: FilePages?
  private var held: [Range<UInt>] = []

  /// - Throws: `TensorError.outOfMemory` when the limit is smaller than the largest matrix.
  init(_ model: LanguageModel) throws {
    let matrices = model.modules.filter(Self.isMatrix).map(Self.ranges)
    let sizes = matrices.map(LanguageModel.mappedByteCount)
    memory = model.backend.memory
    byteCount = (sizes.max() ?? 0) + max(0, model.mappedByteCount - sizes.reduce(0, +))
    for ranges in matrices { PageReader.release(ranges) }
    pages = try FilePages(byteCount, on: memory)
  }

  deinit { PageReader.release(held) }

  /// What comes and goes; the rest is small and stays.
  static func isMatrix(_ module: Module) -> Bool { module.kind == .linear || module.kind == .embedding }

  private static func ranges(_ module: Module) -> [Range<UInt>] {
    module.tensors.compactMap { $0?.storage.file }.filter { !$0.bytes.isEmpty }.map(\.addresses)
  }

  /// Called before a matrix is looked at.
  /// - Throws: `TensorError.outOfMemory` after `leave`.
  func enter(_ module: Module) throws {
    guard Self.isMatrix(module) else { return }
    if pages == nil { pages = try FilePages(byteCount, on: memory) }
    let ranges = Self.ranges(module)
    guard ranges != held else { return }
    PageReader.release(held)
    held = ranges
  }

  /// Drops what is held, until a matrix is looked at again.
  func leave() {
    PageReader.release(held)
    (held, pages) = ([], nil)
  }
}

extension LanguageModel {
  /// Runs `body` with one matrix of the base in memory at a time, where the base lies in a file. Whether it is streamed
  /// is as before afterwards. The bits are the same.
  /// - Throws: what `body` throws; `TensorError.outOfMemory` when the largest matrix does not fit the limit.
  package func byMatrix<R>(_ body: () throws -> R) throws -> R {
    guard matrixWindow == nil else { return try body() }
    let (wasStreamed, wasInMemory) = (stream != nil, filePages != nil)
    let result = Result {
      try keepOneMatrix()
      return try body()
    }
    matrixWindow = nil
    if wasStreamed { try setStreaming(true) }
    if wasInMemory { filePages = try FilePages(mappedByteCount, on: backend.memory) }
    return try result.get()
  }

  /// Has one matrix of the base in memory at a time from now on, where the base lies in a file.
  /// - Throws: `TensorError.outOfMemory` when the largest does not fit the limit.
  func keepOneMatrix() throws {
    (stream, filePages) = (nil, nil)
    matrixWindow = try MatrixWindow(self)
  }
}
