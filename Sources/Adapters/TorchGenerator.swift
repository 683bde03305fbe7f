/// The numbers of PyTorch's generator on the processor, `torch.Generator(device="cpu").manual_seed(seed)`: MT19937
/// (Matsumoto and Nishimura 1998), and what `Tensor.uniform_` makes of them in f32, bit for bit.
struct TorchGenerator {
  private var state: [UInt32]
  private var next = 624

  /// The lower 32 bits of a seed count, as there.
  init(seed: UInt32) {
    state = [seed]
    for index in 1..<624 {
      let last = state[index - 1]
      state.append(1_812_433_253 &* (last ^ (last >> 30)) &+ UInt32(index))
    }
  }

  private mutating func draw() -> UInt32 {
    if next == 624 {
      for index in 0..<624 {
        let mixed = (state[index] & 0x8000_0000) | (state[(index + 1) % 624] & 0x7FFF_FFFF)
        state[index] = state[(index + 397) % 624] ^ (mixed >> 1) ^ (mixed & 1 == 0 ? 0 : 0x9908_B0DF)
      }
      next = 0
    }
    var value = state[next]
    next += 1
    value ^= value >> 11
    value ^= (value << 7) & 0x9D2C_5680
    value ^= (value << 15) & 0xEFC6_0000
    return value ^ (value >> 18)
  }

  /// 24 bits of a number between -bound and bound, in f64 until the last rounding.
  mutating func uniform(count: Int, bound: Double) -> [Float] {
    let (low, high) = (Float(-bound), Float(bound))
    return (0..<count).map { _ in
      Float(Double(draw() & 0xFF_FFFF) * 0x1p-24 * Double(high - low) + Double(low))
    }
  }
}
