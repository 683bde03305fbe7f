import Tensors

/// Where the state of each page lives: all of it in memory, or within a budget with the rest in a file.
protocol StateStore: AnyObject {
  /// The memory that holds a page until `release`; zeros at first.
  func acquire(_ page: Int) throws -> StateBlock
  func release(_ page: Int, isDirty: Bool)
  var statistics: PageStatistics? { get }
}

/// Memory for one page at a time, seen as the arrays of the page.
final class StateBlock {
  /// u8.
  let bytes: Tensor
  private var arrays: [[Tensor]] = []
  private var number: Int?

  init(_ bytes: Tensor) { self.bytes = bytes }

  /// The arrays of each segment of the page it holds; made when it holds this page for the first time since another.
  func arrays(of page: StatePage, _ number: Int) -> [[Tensor]] {
    if number != self.number {
      arrays = page.segments.map { segment in
        segment.slices.map { slice in
          Tensor(
            storage: bytes.storage, dtype: slice.array.dtype, shape: [slice.elementCount],
            offset: slice.offset / slice.array.dtype.byteCount)
        }
      }
      self.number = number
    }
    return arrays
  }
}

/// All pages in memory.
final class ResidentStore: StateStore {
  private let blocks: [StateBlock]

  init(byteCounts: [Int], backend: any Backend) throws {
    blocks = try byteCounts.map {
      StateBlock(try Tensor(full: [$0], value: 0, dtype: .u8, category: .optimizer, on: backend))
    }
  }

  func acquire(_ page: Int) -> StateBlock { blocks[page] }
  func release(_ page: Int, isDirty: Bool) {}
  var statistics: PageStatistics? { nil }
}
