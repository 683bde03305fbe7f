/// A stream of random numbers, addressed by position: value i depends on (seed, stream, i) only.
public struct RandomStream: Sendable, Equatable {
  /// The seed of the run.
  public let seed: UInt64
  /// The number of the stream among those of the seed.
  public let stream: UInt64

  /// The stream with this number.
  public init(seed: UInt64, stream: UInt64) {
    self.seed = seed
    self.stream = stream
  }

  /// The stream of one purpose at one step in one module; FNV-1a over the parts, so that streams do not depend on
  /// the order in which they are drawn.
  public init(seed: UInt64, purpose: String, step: Int = 0, module: String = "") {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    for byte in purpose.utf8 { mix(byte) }
    mix(0)
    for shift in stride(from: 0, to: 64, by: 8) { mix(UInt8(truncatingIfNeeded: step >> shift)) }
    for byte in module.utf8 { mix(byte) }
    self.init(seed: seed, stream: hash)
  }
}
