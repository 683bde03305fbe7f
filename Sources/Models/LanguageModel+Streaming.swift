import Tensors

extension LanguageModel {
  /// Whether the matrices of all layers are views of a file, so that they can be read as a step reaches them.
  package var canStream: Bool {
    isLoaded
      && modules.allSatisfy { module in
        guard module.layer != nil, module.kind == .linear else { return true }
        return (module.quantized?.codes ?? module.blocks?.bytes ?? module.weight)?.storage.file != nil
      }
  }

  /// Bytes of files that weights are views of, in the units in which the kernel maps them: with a page that is touched
  /// come the fifteen around it.
  var mappedByteCount: Int {
    let views = modules.flatMap { module -> [FileBytes] in
      module.tensors.compactMap { $0?.storage.file }.filter { !$0.bytes.isEmpty }
    }
    return Self.mappedByteCount(views.map(\.addresses))
  }

  /// Bytes of the units that these address ranges touch.
  static func mappedByteCount(_ ranges: [Range<UInt>]) -> Int {
    let unit: UInt = 64 << 10
    let units = ranges.map { $0.lowerBound / unit..<($0.upperBound + unit - 1) / unit }
    var (total, end) = (UInt(0), UInt(0))
    for range in units.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.upperBound > end {
      total += range.upperBound - max(end, range.lowerBound)
      end = range.upperBound
    }
    return Int(total * unit)
  }

  /// What loading can decide: what was asked for, and that a base that does not fit by itself is streamed. Whether it
  /// fits with all that training needs, a plan or the first pass tells.
  func chooseStreaming() throws {
    if options.keepsOneMatrix { return try keepOneMatrix() }
    if let streams = options.streams { return try setStreaming(streams) }
    try decideStreaming()
    if canStream { filePages = nil }
  }

  /// Has the base in memory, or streams it where that does not fit, unless it is decided.
  func decideStreaming() throws {
    guard stream == nil, filePages == nil, matrixWindow == nil, !origin.isRandom else { return }
    do { try setStreaming(false) } catch let error as TensorError {
      guard canStream, options.streams == nil else { throw error }
      try setStreaming(true)
    }
  }

  /// Leaves the base on disk, or has it in memory, from the next pass on; the bits are the same.
  /// - Throws: `cannotStream`, `streamedInterval`; `outOfMemory` when what would be in memory does not fit the limit.
  ///   Nothing changes then.
  package func setStreaming(_ streams: Bool) throws {
    guard isLoaded else { throw ModelError.headerOnly(operation: "stream") }
    if streams == (stream != nil), streams || filePages != nil { return }
    if streams { try leaveOnDisk() } else { try haveInMemory() }
  }

  private func leaveOnDisk() throws {
    guard checkpointInterval == 1 else { throw ModelError.streamedInterval(layers: checkpointInterval) }
    let wasInMemory = filePages != nil
    // The window is a part of what was on the books, so that must not be counted beside it.
    filePages = nil
    do { stream = try WeightStream(self) } catch {
      if wasInMemory { filePages = try FilePages(mappedByteCount, on: backend.memory) }
      throw error
    }
  }

  private func haveInMemory() throws {
    let before = stream
    stream = nil
    do { filePages = try FilePages(mappedByteCount, on: backend.memory) } catch {
      stream = before
      throw error
    }
  }
}
