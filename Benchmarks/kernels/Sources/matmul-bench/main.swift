import CPUBackend
import Glibc
import Tensors

// GFLOP/s of the matrix products: swift run -c release matmul-bench [threads] [part of a name]

func seconds() -> Double {
  var t = timespec()
  clock_gettime(CLOCK_MONOTONIC, &t)
  return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
}

/// The best of several runs, for half a second at most.
func best(_ body: () -> Void) -> Double {
  body()
  var best = Double.infinity
  let end = seconds() + 0.5
  repeat {
    let start = seconds()
    body()
    best = min(best, seconds() - start)
  } while seconds() < end
  return best
}

func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
  let p = UnsafeMutablePointer<Float>.allocate(capacity: count)
  for i in 0..<count { p[i] = Float((i &* 2_654_435_761) & 0xffff) / 65536 - 0.5 }
  return p
}

let threads = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 2 : 2
let wanted = CommandLine.arguments.count > 2 ? CommandLine.arguments[2] : ""
let backend = CPUBackend(threadCount: threads)

func padded(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(1, width - text.utf8.count))
}

func report(_ name: String, _ flops: Double, _ time: Double) {
  let rate = Int(flops / time / 1e8)
  print(padded(name, 44), "\(rate / 10).\(rate % 10) GFLOP/s", " \(Int(time * 1e6)) us")
}

func dense(
  _ label: String, _ m: Int, _ n: Int, _ k: Int, _ transposeA: Bool, _ transposeB: Bool, _ type: DType,
  _ precision: DType
) {
  let name = "\(label) \(m)x\(n)x\(k) \(transposeA ? "T" : "N")\(transposeB ? "T" : "N") \(type.name)/\(precision.name)"
  guard wanted.isEmpty || name.contains(wanted) else { return }
  let a = floats(m * k)
  let b = floats(n * k)
  let c = floats(m * n)
  defer {
    a.deallocate()
    b.deallocate()
    c.deallocate()
  }
  let time = best {
    backend.matmul(
      m: m, n: n, k: k, alpha: 1, a: a, aType: type, aRowStride: transposeA ? m : k, transposeA: transposeA, b: b,
      bType: type, bRowStride: transposeB ? k : n, transposeB: transposeB, beta: 0, c: c, cType: type, cRowStride: n,
      precision: precision)
  }
  report(name, 2 * Double(m) * Double(n) * Double(k), time)
}

func quantized(_ rows: Int, _ out: Int, _ columns: Int, _ transposed: Bool, _ type: DType, _ precision: DType) {
  let name = "nf4 \(rows) rows \(out)x\(columns) \(transposed ? "dX" : "Y") \(type.name)/\(precision.name)"
  guard wanted.isEmpty || name.contains(wanted) else { return }
  let codes = UnsafeMutablePointer<UInt8>.allocate(capacity: out * columns / 2)
  for i in 0..<out * columns / 2 { codes[i] = UInt8(truncatingIfNeeded: i &* 2_654_435_761 >> 7) }
  let absmax = floats(out * columns / 64)
  let book = floats(16)
  let x = floats(rows * max(out, columns))
  let y = floats(rows * max(out, columns))
  defer {
    codes.deallocate()
    absmax.deallocate()
    book.deallocate()
    x.deallocate()
    y.deallocate()
  }
  let weight = QuantizedWeightPointers(
    codes: codes, out: out, in: columns, blockSize: 64, codebook: book, absmax: absmax)
  let time = best {
    backend.quantizedMatmul(
      rows: rows, weight: weight, transposed: transposed, alpha: 1, x: x, xType: type,
      xRowStride: transposed ? out : columns, beta: 0, y: y, yType: type, yRowStride: transposed ? columns : out,
      precision: precision)
  }
  report(name, 2 * Double(rows) * Double(out) * Double(columns), time)
}

print("\(backend.instructionSet), \(threads) threads")
for precision in [DType.f32, .bf16] {
  dense("square", 512, 4096, 4096, false, true, .f32, precision)
  dense("square", 512, 4096, 4096, false, false, .f32, precision)
  dense("square", 512, 4096, 4096, true, false, .f32, precision)
  dense("long", 2048, 4096, 11008, false, true, .f32, precision)
  dense("model", 512, 1536, 576, false, true, .f32, precision)
  dense("model", 512, 576, 1536, false, false, .f32, precision)
  dense("few", 4, 4096, 4096, false, true, .f32, precision)
  dense("few", 8, 4096, 4096, false, true, .f32, precision)
  dense("few", 16, 4096, 4096, false, true, .f32, precision)
  dense("one", 1, 4096, 4096, false, true, .f32, precision)
  dense("lora down", 512, 16, 576, false, true, .f32, precision)
  dense("lora up", 512, 576, 16, false, true, .f32, precision)
  dense("lora dA", 16, 576, 512, true, false, .f32, precision)
  dense("lora dB", 576, 16, 512, true, false, .f32, precision)
  dense("lora dh", 512, 16, 576, false, false, .f32, precision)
  dense("lora dx", 512, 576, 16, false, false, .f32, precision)
  for rows in [1, 2, 3, 4, 5, 8, 16, 31, 128, 512, 2048] { quantized(rows, 4096, 4096, false, .f32, precision) }
  for rows in [1, 16, 128, 512] { quantized(rows, 4096, 4096, true, .f32, precision) }
  quantized(512, 576, 1536, false, .f32, precision)
  quantized(512, 576, 1536, true, .f32, precision)
  quantized(1, 576, 1536, false, .f32, precision)
}
dense("bf16 storage", 512, 4096, 4096, false, true, .bf16, .bf16)
dense("bf16 storage", 512, 4096, 4096, false, false, .bf16, .bf16)
