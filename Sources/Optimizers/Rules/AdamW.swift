import Tensors

extension OptimizerRule {
  /// AdamW (Loshchilov and Hutter 2019) as torch computes it, in 8 bits as bitsandbytes does.
  public static let adamW = OptimizerRule(
    name: "adamw", title: "AdamW",
    summary: "AdamW as in torch: the mean of gradients over the root of the mean of their squares.",
    hyperparameters: [
      .learningRate,
      Hyperparameter(
        "betas", count: 2, defaults: [0.9, 0.999], range: .rate,
        "decay rates of the mean of gradients and of that of their squares"),
      Hyperparameter("eps", defaults: [1e-8], range: .positive, "what is added to the root of the mean of squares"),
      .weightDecay("decoupled decay: each step takes lr * weight_decay of every weight"),
    ],
    moments: [Moment("exp_avg", .signed), Moment("exp_avg_sq", .unsigned)],
    kernels: [
      OptimizerKernel(bits: 32) { try adamW($0, .adamW) },
      OptimizerKernel(bits: 8) { try adamW($0, .adamW8) },
    ])

  private static func adamW(_ update: ParameterUpdate, _ kernel: OptimizerUpdate.Kernel) throws {
    try update.fused(
      kernel, beta1: update.number("betas", 0), beta2: update.number("betas", 1), epsilon: update.number("eps"))
  }
}
