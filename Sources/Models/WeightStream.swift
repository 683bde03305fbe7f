import Formats
import Tensors

/// Keeps the frozen weights of a model that lies in a mapped file in memory only around the layer being computed.
///
/// The model says which layer comes (`enter`). That layer and the next in the direction of travel (forward, or
/// backward while layers are recomputed) are in memory; the next is read ahead on a thread of its own while this one
/// computes, and everything else is dropped at once. Of a layer's experts only those are read that tokens are sent to:
/// when its router has chosen them (`request`), or ahead, where the layer is recomputed and they are known. The numbers
/// are those of the same pages, so results do not change.
package final class WeightStream {
  /// Layers, then the output module.
  private let sections: [Section]
  /// What of a section is read when it comes: all but experts.
  private let shared: [Section]
  /// Those of each section, by number; empty in a layer without experts.
  private let experts: [[Section]]
  /// Dropped once the rows of a batch were read.
  private let embedding: Section
  private let path: String
  private let reader: PageReader
  /// The window and what is always in memory, on the books.
  private let pages: FilePages
  private var held: Set<Int> = []
  /// The experts in memory, by the section that they belong to.
  private var heldExperts: [Int: Set<Int>] = [:]
  /// Which each layer's router chose last.
  private var chosen: [Int: [Int]] = [:]
  private var position = -1
  private var isForward = true
  /// What followed the output module last time: the last layer in training, the first in generation.
  private var afterOutput: Int

  /// Most bytes of sections held at once, so far.
  package private(set) var peakByteCount = 0
  /// Bytes of sections brought in, so far (from the disk or the page cache).
  package private(set) var readByteCount = 0
  /// Seconds that computing waited for reading.
  package private(set) var secondsWaited = 0.0

  private struct Section {
    var ranges: [Range<UInt>]
    /// Keep the mapping alive.
    var files: [FileBytes]
    var byteCount: Int { ranges.reduce(0) { $0 + $1.count } }
  }

  /// - Throws: `cannotStream` where a layer's matrix is not a view of a file, `outOfMemory` when the limit is smaller
  ///   than the window, `noThread` where the system gives no thread to read on.
  init(_ model: LanguageModel) throws {
    guard model.canStream else { throw ModelError.cannotStream(path: model.path) }
    reader = try PageReader()
    path = model.path
    let layers = (0..<model.spec.layerCount).map { layer in model.modules.filter { $0.layer == layer } }
    let all = layers + [[model.outputModule]]
    sections = all.map { Self.section($0) }
    shared = all.map { modules in Self.section(modules.filter { $0.expert == nil }) }
    experts = all.map { modules in
      let numbered = Dictionary(grouping: modules) { $0.expert ?? -1 }
      return (0..<(numbered.keys.max() ?? -1) + 1).map { Self.section(numbered[$0] ?? []) }
    }
    embedding =
      model.outputModule === model.modules[0] ? Section(ranges: [], files: []) : Self.section([model.modules[0]])
    afterOutput = sections.count - 2
    let streamed = (sections + [embedding]).reduce(0) { $0 + $1.byteCount }
    let window = Self.windowByteCount(sections.dropLast().map(\.byteCount), output: sections[layers.count].byteCount)
    pages = try FilePages(window + max(0, model.mappedByteCount - streamed), on: model.backend.memory)
    // Loading has touched pages here and there.
    for section in sections + [embedding] { PageReader.release(section.ranges) }
  }

  deinit {
    for section in held { wait(section) }
  }

  /// Bytes of all sections: what a resident model would hold.
  package var byteCount: Int { sections.reduce(0) { $0 + $1.byteCount } }
  /// Bytes of the largest section.
  package var largestByteCount: Int { sections.map(\.byteCount).max() ?? 0 }

  /// Most bytes in memory at once: two neighbours, of which the output module can be one, after the last layer or, in
  /// generation, before the first.
  static func windowByteCount(_ layers: [Int], output: Int) -> Int {
    let ring = layers + [output]
    return zip(ring, ring.dropFirst() + [ring[0]]).map { $0 + $1 }.max() ?? 0
  }

  /// Called when the rows of a batch have been taken from the embedding table.
  func leaveEmbedding() { PageReader.release(embedding.ranges) }

  /// Called before layer `index` computes; the number of layers stands for the output module.
  /// - Throws: `unreadableWeights` when the file cannot be read any more.
  func enter(_ index: Int) throws {
    if index == position, held.contains(index), index != 0 { return }
    let output = sections.count - 1
    if position == output { afterOutput = index }
    // After the backward pass has ended at layer 0 the next forward pass enters it again.
    isForward = index > position || index == 0
    position = index
    let next = index == output ? afterOutput : isForward ? index + 1 : index - 1
    let wanted = [index, next].filter { sections.indices.contains($0) }
    for section in held.subtracting(wanted) {
      wait(section)
      PageReader.release(sections[section].ranges)
      held.remove(section)
      heldExperts[section] = nil
    }
    if index == output {
      // Also a layer that somebody looked at.
      for section in sections.indices where !held.contains(section) { PageReader.release(sections[section].ranges) }
    }
    for section in wanted where held.insert(section).inserted {
      reader.request(section, shared[section].ranges)
      readByteCount += shared[section].byteCount
      // A layer that is recomputed sends its tokens where it sent them before.
      if !isForward { request(chosen[section] ?? [], of: section) }
    }
    notePeak()
    do { try wait(for: index) } catch {
      held.remove(index)
      throw error
    }
  }

  /// Called when the router of the layer being computed has chosen the experts of all tokens, in ascending order.
  func request(_ numbers: [Int]) {
    chosen[position] = numbers
    request(numbers, of: position)
    notePeak()
  }

  /// Called before an expert of the layer being computed is.
  /// - Throws: `unreadableWeights` when the file cannot be read any more.
  func enter(expert number: Int) throws {
    do { try wait(for: key(number, of: position)) } catch {
      heldExperts[position]?.remove(number)
      throw error
    }
  }

  private func request(_ numbers: [Int], of section: Int) {
    for number in numbers where heldExperts[section, default: []].insert(number).inserted {
      let expert = experts[section][number]
      reader.request(key(number, of: section), expert.ranges)
      readByteCount += expert.byteCount
    }
  }

  /// What the reader calls an expert; sections have their own numbers.
  private func key(_ expert: Int, of section: Int) -> Int { (1 + expert) * sections.count + section }

  private func notePeak() {
    let bytes = held.reduce(0) { sum, section in
      let chosen = heldExperts[section] ?? []
      return sum + shared[section].byteCount + chosen.reduce(0) { $0 + experts[section][$1].byteCount }
    }
    peakByteCount = max(peakByteCount, bytes)
  }

  /// Waits for a read, whatever becomes of it, of a section and its experts.
  private func wait(_ section: Int) {
    _ = reader.wait(for: section)
    for number in heldExperts[section] ?? [] { _ = reader.wait(for: key(number, of: section)) }
  }

  private func wait(for key: Int) throws {
    let clock = ContinuousClock()
    let began = clock.now
    let code = reader.wait(for: key)
    secondsWaited += Double((clock.now - began) / .nanoseconds(1)) / 1e9
    guard code == 0 else {
      throw ModelError.unreadableWeights(path: path, layer: key % sections.count, code: code)
    }
  }

  /// Address ranges of the parts of a file that these modules view; neighbours in the file become one range.
  private static func section(_ modules: [Module]) -> Section {
    let files = modules.flatMap { module in
      [
        module.weight, module.quantized?.codes, module.quantized?.absmax, module.blocks?.bytes,
        module.blocks?.rows.second,
      ]
      .compactMap { $0?.storage.file }
      .filter { !$0.bytes.isEmpty }
    }
    let page: UInt = 4096
    var ranges: [Range<UInt>] = []
    for range in files.map(\.addresses).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = ranges.last, range.lowerBound <= last.upperBound + page {
        ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        ranges.append(range)
      }
    }
    return Section(ranges: ranges, files: files)
  }
}
