import Tensors

extension OptimizerRule {
  /// Lion (Chen et al. 2023).
  public static let lion = OptimizerRule(
    name: "lion", title: "Lion",
    summary: "Lion: the sign of a mean of gradients; take a tenth to a third of AdamW's rate.",
    hyperparameters: [
      .learningRate,
      Hyperparameter(
        "betas", count: 2, defaults: [0.9, 0.99], range: .rate,
        "decay rates of the mean whose sign moves the weights and of the mean that is kept"),
      .weightDecay("decoupled decay: each step takes lr * weight_decay of every weight"),
    ],
    moments: [Moment("exp_avg", .signed)],
    kernels: [
      OptimizerKernel(bits: 32) { try lion($0, .lion) },
      OptimizerKernel(bits: 8) { try lion($0, .lion8) },
    ])

  private static func lion(_ update: ParameterUpdate, _ kernel: OptimizerUpdate.Kernel) throws {
    try update.fused(kernel, beta1: update.number("betas", 0), beta2: update.number("betas", 1))
  }
}
