import Adapters
import Autograd
import CPUBackend
import Foundation
import Models
import Optimizers
import Tensors
import Testing
import Training

private let tiny = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("models/tiny").path

/// One run of the whole program on a device: NF4 with double quantization, adapters with dropout, recomputed layers
/// whose inputs are in a file, paged state, and a checkpoint in the middle from which new objects go on.
private struct Run {
  let backend: any Backend
  let bits: Int
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path

  func makeModel() throws -> LanguageModel {
    let options = LoadOptions(quantization: .nf4, doubleQuantization: true, computeType: .f32)
    let model = try ModelLoader(backend: backend, options: options).load(tiny)
    try model.attachLoRA(rank: 24, alpha: 48, dropout: 0.1)
    model.checkpointing = true
    model.activationStore = try ActivationStore(directory: folder)
    return model
  }

  func makeOptimizer(_ model: LanguageModel) throws -> Optimizer {
    var options = OptimizerOptions(
      .adamW, learningRate: 0.003, bits: bits, isPaged: true, budget: 1 << 18, spillDirectory: folder)
    options.pageElementCount = 8192
    return try Optimizer(model.optimizedParameters, options)
  }

  func train(_ model: LanguageModel, _ optimizer: Optimizer, _ steps: Range<Int>) throws -> [Double] {
    try steps.map { step in
      try optimizer.zeroGradients()
      let rows = (0..<2).map { row in (0..<12 + 9 * row).map { Int32(($0 * $0 * 7 + 31 * row + 101 * step) % 1280) } }
      let loss = try model.loss(Batch(rows.map { ($0, nil) }))
      let value = try loss.item()
      try loss.backward()
      try optimizer.step()
      return value
    }
  }

  func losses() throws -> [Double] {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try makeModel()
    let optimizer = try makeOptimizer(model)
    let first = try train(model, optimizer, 0..<3)
    let pages = try #require(optimizer.statistics, "nothing was paged")
    #expect(pages.bytesWritten > 0 && pages.bytesRead > 0)
    #expect(try #require(model.activationStore).readByteCount > 0)
    try TrainingCheckpoint.save(folder + "/half", model: model, optimizer: optimizer, state: ["step": 3])

    let resumed = try makeModel()
    let second = try makeOptimizer(resumed)
    _ = try TrainingCheckpoint.load(folder + "/half", model: resumed, optimizer: second)
    let last = try train(resumed, second, 3..<5)
    #expect(try train(model, optimizer, 3..<5) == last, "the resumed run differs from the one that went on")
    return first + last
  }
}

@Suite(.serialized) struct DeviceTrainingTests {
  @Test(arguments: [32, 8]) func aDeviceOfHandlesTrainsAsTheCPU(bits: Int) throws {
    let device = HandleBackend()
    let wanted = try Run(backend: CPUBackend(threadCount: 2), bits: bits).losses()
    let got = try Run(backend: device, bits: bits).losses()
    #expect(wanted.count == 5 && wanted[0] - wanted[4] != 0)
    for (step, (a, b)) in zip(got, wanted).enumerated() {
      #expect(abs(a - b) < 1e-5, "step \(step): \(a), the CPU has \(b)")
    }
    // The last request for a file may still be on its way.
    for _ in 0..<200 where device.blocks.blockCount > 0 { usleep(10_000) }
    #expect(device.blocks.blockCount == 0, "blocks are left on the device")
  }
}
