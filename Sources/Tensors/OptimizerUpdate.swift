/// A fused update of an optimizer with its numbers. Optimizers that have none are made of other operations.
public struct OptimizerUpdate: Sendable {
  /// The rule of an update, with the state tensors it takes in order. g is the scaled gradient.
  public enum Kernel: Sendable {
    /// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr (wd p + m / c1 / (sqrt(v) / c2 + eps)) with
    /// c1 = 1 - b1^step, c2 = sqrt(1 - b2^step); state m, v in f32 (Loshchilov and Hutter 2019).
    case adamW
    /// The same with state in 8 bits: codes u8 [count] and maxima f32 [blocks] of m (signed map), then of v (unsigned
    /// map), in blocks of `DynamicMap.stateBlockSize` (bitsandbytes).
    case adamW8
    /// p -= lr (wd p + sign(b1 m + (1 - b1) g)), m = b2 m + (1 - b2) g; state m in f32 (Chen et al. 2023).
    case lion
    /// The same with codes and maxima of m (signed map).
    case lion8
    /// v = b1 v + g + wd p, p -= lr v; state v in f32 (torch.optim.SGD).
    case sgd
  }

  /// The rule.
  public var kernel: Kernel
  /// lr of the rules.
  public var learningRate: Float
  /// b1 of the rules; of SGD the momentum.
  public var beta1: Float
  /// b2 of the rules; SGD does not read it.
  public var beta2: Float
  /// eps of AdamW; the other rules do not read it.
  public var epsilon: Float
  /// wd of the rules: decoupled, but of SGD part of the gradient.
  public var weightDecay: Float

  /// An update with the defaults of torch.optim.AdamW, but no weight decay and a learning rate that has to be given.
  public init(
    _ kernel: Kernel, learningRate: Float, beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8,
    weightDecay: Float = 0
  ) {
    self.kernel = kernel
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
  }
}
