import Models
import Tensors

/// Memory of a merge that measures: every target is compared on a batch, then one is written.
///
/// It is rehearsed as a training step is (`MemoryPlan`).
package struct MergePlan: Sendable {
  /// The highest resident memory of the process.
  package let peak: Int

  /// Plans what `ComparedSide.compared` and `MergedWeights.save` need.
  /// - Parameters:
  ///   - model: with adapters; may be header-only.
  ///   - lengths: tokens of the sequences of the largest batch.
  ///   - targets: those that are measured; one that cannot be made is left out.
  ///   - original: the folder or file with the 16-bit weights; nil for that of the model.
  ///   - dtype: how weights are stored that are not in 4 bits.
  ///   - saves: whether one of them is written.
  ///   - backend: a fresh one.
  ///   - programByteCount: what the process holds besides tensors, pages of files and kernel scratch, with token ids.
  ///   - laterByteCount: how much of that comes after the weights were read: the tokenizer and token ids.
  ///   - readBackByteCount: what reading a saved folder takes besides tensors.
  /// - Throws: what the rehearsed passes throw.
  package init(
    _ model: LanguageModel, lengths: [Int], targets: [MergedWeights.Target], original: String?, dtype: DType,
    saves: Bool,
    on backend: any RehearsalBackend, programByteCount: Int,
    laterByteCount: Int, readBackByteCount: Int
  ) throws {
    let rehearsal = try Rehearsal(of: model, streams: false, byMatrix: true, on: backend)
    let twin = rehearsal.model
    backend.resetResidentPeak()
    let merged = try targets.compactMap { target -> MergedWeights? in
      do { return try MergedWeights(twin, target, original: original, dtype: dtype) } catch ModelError.noOriginalWeights
      {
        return nil
      }
    }
    let batch = try Batch(
      lengths.map { count in
        (ids: [Int32](repeating: 0, count: count), labels: [Int32](repeating: NextToken.untrained, count: count))
      })
    _ = try ComparedSide.live(twin).compared(with: [.base(twin)] + merged.map { .merged($0) }, on: batch)
    var highest = max(rehearsal.loadPeak - laterByteCount, rehearsal.fileByteCount + backend.peakResidentByteCount)
    for weights in saves ? merged : [] {
      backend.resetResidentPeak()
      try weights.rehearseSaving()
      highest = max(highest, rehearsal.fileByteCount + backend.peakResidentByteCount)
      // What was written is read back beside the blocks that are kept.
      backend.resetResidentPeak()
      try weights.rehearseReadingBack()
      let saved = weights.savedMatrixByteCount + readBackByteCount
      highest = max(highest, saved + backend.peakResidentByteCount)
    }
    peak = programByteCount + highest
  }
}
