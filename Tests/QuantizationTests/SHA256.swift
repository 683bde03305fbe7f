import Foundation

/// SHA-256 (FIPS 180-4), for comparing with published hashes; the tests need nothing faster.
func sha256(_ message: [UInt8]) -> String {
  func root(_ n: Int, _ power: Double) -> UInt32 {
    var x = Double(n)
    x = power == 2 ? x.squareRoot() : cbrt(x)
    return UInt32((x - x.rounded(.down)) * 0x1p32)
  }
  var primes: [Int] = []
  var candidate = 2
  while primes.count < 64 {
    if primes.allSatisfy({ candidate % $0 != 0 }) { primes.append(candidate) }
    candidate += 1
  }
  let k = primes.map { root($0, 3) }
  var hash = primes.prefix(8).map { root($0, 2) }
  var data = message + [0x80]
  while data.count % 64 != 56 { data.append(0) }
  for shift in stride(from: 56, through: 0, by: -8) {
    data.append(UInt8(truncatingIfNeeded: (message.count * 8) >> shift))
  }
  func rotate(_ x: UInt32, _ n: UInt32) -> UInt32 { (x >> n) | (x << (32 - n)) }
  for chunk in stride(from: 0, to: data.count, by: 64) {
    var w = (0..<16).map { i in (0..<4).reduce(UInt32(0)) { ($0 << 8) | UInt32(data[chunk + 4 * i + $1]) } }
    for i in 16..<64 {
      let s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3)
      let s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10)
      w.append(w[i - 16] &+ s0 &+ w[i - 7] &+ s1)
    }
    var v = hash
    for i in 0..<64 {
      let s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)
      let t1 = v[7] &+ s1 &+ ((v[4] & v[5]) ^ (~v[4] & v[6])) &+ k[i] &+ w[i]
      let s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)
      let t2 = s0 &+ ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]))
      v = [t1 &+ t2, v[0], v[1], v[2], v[3] &+ t1, v[4], v[5], v[6]]
    }
    for i in 0..<8 { hash[i] = hash[i] &+ v[i] }
  }
  return hash.map { word in
    let text = String(word, radix: 16)
    return String(repeating: "0", count: 8 - text.count) + text
  }.joined()
}
