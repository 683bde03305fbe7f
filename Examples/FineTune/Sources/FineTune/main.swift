// Teaches the tiny model that ships five answers it does not know: 4-bit base, LoRA, paged AdamW.
//
//   swift run --package-path Examples/FineTune
import QLoRA

let lessons = [
  ("Who bakes bread?", " The baker."), ("Where is the fish?", " At the market."), ("What is red?", " The apple."),
  ("Who lost a kite?", " Rosa."), ("When does Mia run?", " In the morning."),
]

// 1. The base model, quantized to NF4 as it is read, and trainable matrices beside its linear layers.
let model = try ModelLoader(backend: CPUBackend(), options: LoadOptions(quantization: .nf4)).load("models/tiny")
try model.attachLoRA(rank: 8, alpha: 16)

// 2. Samples: the question is not trained, the answer is.
let samples = Samples(for: model)
for (question, answer) in lessons { try samples.append(prompt: question, answer: answer) }

// 3. AdamW whose state is paged to a file beyond 64 MiB, and the training step with clipping.
let options = OptimizerOptions(.adamW, learningRate: 4e-3, isPaged: true, budget: 64 << 20)
let optimizer = try Optimizer(model.optimizedParameters, options)
let trainer = try Trainer(model, optimizer, maxGradientNorm: 1)
for step in 1...30 {
  let report = try trainer.step(samples.microBatches(samples.indices, size: 2, step: step))
  if step % 10 == 0 { print("step \(step)  loss \(report.loss)  gradient norm \(report.gradientNorm)") }
}

// 4. What it learnt, in PEFT's format.
for (question, _) in lessons { print(question + (try model.generateText(question))) }
try PEFTFiles.save(model, directory: "out/swift")
