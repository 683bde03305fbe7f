extension OptimizerRule {
  /// Stochastic gradient descent as torch.optim.SGD.
  public static let sgd = OptimizerRule(
    name: "sgd", title: "SGD",
    summary: "Gradient descent with momentum.",
    hyperparameters: [
      .learningRate,
      Hyperparameter("momentum", defaults: [0], range: .rate, "decay rate of the running sum of gradients"),
      .weightDecay("decay: the gradient grows by weight_decay times the weight"),
    ],
    moments: [Moment("momentum_buffer", .signed)],
    kernels: [OptimizerKernel { try $0.fused(.sgd, beta1: $0.number("momentum")) }])
}
