/// SplitMix64 (Steele, Lea and Flood 2014): the same seed gives the same inputs on every machine.
struct Random {
  private var state: UInt64

  /// The stream of one input: driver, seed and number of the input decide every choice.
  init(driver: String, seed: UInt64, number: Int) {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in driver.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    state = hash ^ seed &* 0x9E37_79B9_7F4A_7C15
    state = next() ^ UInt64(number)
    _ = next()
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// From 0 to `count` - 1; 0 where there is nothing to choose from.
  mutating func below(_ count: Int) -> Int { count <= 1 ? 0 : Int(next() % UInt64(count)) }

  /// True once in `times`.
  mutating func once(in times: Int) -> Bool { below(times) == 0 }

  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

  mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
}
