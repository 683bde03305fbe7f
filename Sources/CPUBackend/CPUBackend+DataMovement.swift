import Glibc
import Numerics
import Tensors

/// One element of any dtype as a double, exact for every value but large i64.
func loadElement(_ p: UnsafeRawPointer, _ dtype: DType, _ index: Int) -> Double {
  switch dtype {
  case .f32: Double(p.load(fromByteOffset: 4 * index, as: Float.self))
  case .bf16: Double(Float(bitPattern: UInt32(p.load(fromByteOffset: 2 * index, as: UInt16.self)) << 16))
  case .f16: Double(p.load(fromByteOffset: 2 * index, as: Float16.self))
  case .i64: Double(p.load(fromByteOffset: 8 * index, as: Int64.self))
  case .i32: Double(p.load(fromByteOffset: 4 * index, as: Int32.self))
  case .u8: Double(p.load(fromByteOffset: index, as: UInt8.self))
  }
}

/// Stores a double as an element: floats rounded to nearest even, integers truncated and clamped (NaN gives 0).
func storeElement(_ p: UnsafeMutableRawPointer, _ dtype: DType, _ index: Int, _ value: Double) {
  func clamped<I: FixedWidthInteger>(_: I.Type) -> I {
    if value.isNaN { return 0 }
    return I(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
  }
  switch dtype {
  case .f32: p.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
  case .bf16: p.storeBytes(of: bfloat16(Float(value)), toByteOffset: 2 * index, as: UInt16.self)
  case .f16: p.storeBytes(of: Float16(Float(value)), toByteOffset: 2 * index, as: Float16.self)
  case .i64: p.storeBytes(of: clamped(Int64.self), toByteOffset: 8 * index, as: Int64.self)
  case .i32: p.storeBytes(of: clamped(Int32.self), toByteOffset: 4 * index, as: Int32.self)
  case .u8: p.storeBytes(of: clamped(UInt8.self), toByteOffset: index, as: UInt8.self)
  }
}

/// The largest number of a dtype that is less than `bound`.
private func largest(of dtype: DType, below bound: Double) -> Double {
  guard dtype.isFloat else { return bound.rounded(.up) - 1 }
  // Rounding goes to a neighbour, so that number is the rounded bound or the one below it.
  let rounded = Float(bound)
  switch dtype {
  case .f16:
    let half = Float16(rounded)
    return Double(Double(half) < bound ? half : half.nextDown)
  case .bf16:
    let bits = bfloat16(rounded)
    let value = Double(Float(bitPattern: UInt32(bits) << 16))
    guard value >= bound else { return value }
    // Of positive numbers the one with a smaller pattern is below, of negative ones that with a larger; 0 has one of
    // each.
    let below: UInt16 = bits & 0x7FFF == 0 ? 0x8001 : bits < 0x8000 ? bits - 1 : bits + 1
    return Double(Float(bitPattern: UInt32(below) << 16))
  default: return Double(Double(rounded) < bound ? rounded : rounded.nextDown)
  }
}

private func bfloat16(_ value: Float) -> UInt16 {
  let bits = value.bitPattern
  if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
  return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
}

extension CPUBackend {
  /// Moves elements of one dtype as they are, in blocks where a matrix is transposed, and converts between float dtypes
  /// by vectors where runs of elements are packed on both sides; other conversions go element by element by way of a
  /// double. Threads share all but contiguous bytes.
  ///
  /// Floats are rounded to nearest even. Integers are truncated and clamped, and NaN gives 0. An i64 above 2^53 may
  /// lose low bits on its way to another dtype.
  /// - Throws: `TensorError.shapeMismatch`.
  public func copy(_ source: Tensor, into target: Tensor) throws {
    guard source.shape == target.shape else {
      throw TensorError.shapeMismatch(operation: "copy", lhs: source.shape, rhs: target.shape)
    }
    let count = source.elementCount
    let (from, to) = (Shared(source.address), Shared(target.address))
    let (fromType, toType) = (source.dtype, target.dtype)
    let walk = StridedWalk(shape: source.shape, strides: [source.strides, target.strides])
    if fromType == toType {
      if source.isContiguous, target.isContiguous {
        if pool.isRehearsal { return }
        memmove(to.value, from.value, source.byteCount)
        return
      }
      switch fromType.byteCount {
      case 1: move(UInt8.self, walk, count, from, to)
      case 2: move(UInt16.self, walk, count, from, to)
      case 4: move(UInt32.self, walk, count, from, to)
      default: move(UInt64.self, walk, count, from, to)
      }
      return
    }
    let isCast = walk.runStrides == [1, 1] && fromType.isFloat && toType.isFloat
    let kernels = tables.rows
    pool.forEachRange(count, grain: stridedGrain) { range, _ in
      walk.forEachRun(range) { at, count in
        if isCast {
          kernels.cast(
            from.value + at[0] * fromType.byteCount, fromType.rawValue, to.value + at[1] * toType.byteCount,
            toType.rawValue, count)
          return
        }
        for index in 0..<count {
          storeElement(
            to.value, toType, at[1] + index * walk.runStrides[1],
            loadElement(from.value, fromType, at[0] + index * walk.runStrides[0]))
        }
      }
    }
  }

  /// Elements of the size of `Element`, whose bits stay as they are.
  private func move<Element: FixedWidthInteger & Sendable>(
    _: Element.Type, _ walk: StridedWalk, _ count: Int, _ from: Shared<UnsafeMutableRawPointer>,
    _ to: Shared<UnsafeMutableRawPointer>
  ) {
    let (source, target) = (
      Shared(from.value.assumingMemoryBound(to: Element.self)), Shared(to.value.assumingMemoryBound(to: Element.self))
    )
    let (pitch, step) = (walk.runStrides[0], walk.runStrides[1])
    // Runs across the rows of the source would read one element of every cache line, so 16 of them go together.
    if let lines = walk.outer.last, lines.strides[0] == 1, pitch != 1, step == 1 {
      let (block, width, advance) = (16, walk.runCount, lines.strides[1])
      let strips = (lines.count + block - 1) / block
      pool.forEachRange(count / (lines.count * width) * strips, grain: max(1, stridedGrain / (block * width))) {
        range, _ in
        for strip in range {
          let first = strip % strips * block
          let at = walk.offsets(at: (strip / strips * lines.count + first) * width)
          let (p, q) = (source.value + at[0], target.value + at[1])
          for left in stride(from: 0, to: width, by: block) {
            for line in 0..<min(block, lines.count - first) {
              for column in left..<min(left + block, width) {
                q[line &* advance &+ column] = p[column &* pitch &+ line]
              }
            }
          }
        }
      }
      return
    }
    // Packed runs stay whole, since both may be views of one tensor.
    let isPacked = pitch == 1 && step == 1
    let whole = isPacked ? walk.runCount : 1
    pool.forEachRange(count / whole, grain: max(1, stridedGrain / whole)) { range, _ in
      walk.forEachRun(range.lowerBound * whole..<range.upperBound * whole) { at, count in
        let (p, q) = (source.value + at[0], target.value + at[1])
        if isPacked {
          memmove(q, p, count * MemoryLayout<Element>.size)
        } else {
          for index in 0..<count { q[index &* step] = p[index &* pitch] }
        }
      }
    }
  }

  /// Runs on the calling thread, with `memset` for zeros in a contiguous tensor.
  ///
  /// The value is rounded to nearest even in float dtypes, and truncated and clamped in integer ones (NaN gives 0).
  /// - Throws: Nothing.
  public func fill(_ target: Tensor, _ value: Double) throws {
    if pool.isRehearsal { return }
    let to = Shared(target.address)
    let dtype = target.dtype
    if target.isContiguous {
      if value == 0 {
        memset(to.value, 0, target.byteCount)
      } else {
        for index in 0..<target.elementCount { storeElement(to.value, dtype, index, value) }
      }
      return
    }
    let walk = StridedWalk(shape: target.shape, strides: [target.strides])
    walk.forEachRun(0..<target.elementCount) { at, count in
      for index in 0..<count { storeElement(to.value, dtype, at[0] + index * walk.runStrides[0], value) }
    }
  }

  /// low + (high - low) * u in double precision, with u the upper 24 bits of word i of the stream, times 2^-24.
  ///
  /// The target is contiguous. One Philox block gives four elements, so the values do not depend on the threads. Where
  /// rounding to the dtype would give `high`, the element is the largest number of the dtype below.
  /// - Throws: Nothing.
  public func fillUniform(_ target: Tensor, low: Double, high: Double, stream: RandomStream) throws {
    let to = Shared(target.address)
    let dtype = target.dtype
    let most = largest(of: dtype, below: high)
    forEachRandomBlock(of: target, stream, grain: 4096) { range, words in
      for (index, word) in zip(range, 0..<4) {
        let u = Double(words[word] >> 8) * 0x1p-24
        storeElement(to.value, dtype, index, min(most, low + (high - low) * u))
      }
    }
  }

  /// Box-Muller in double precision on pairs of words: sqrt(-2 ln u1) * cos and sin of 2 pi u2, with u1 in (0, 1] and
  /// u2 in [0, 1).
  ///
  /// The target is contiguous. One Philox block gives four elements, so the values do not depend on the threads.
  /// - Throws: Nothing.
  public func fillNormal(_ target: Tensor, mean: Double, deviation: Double, stream: RandomStream) throws {
    let to = Shared(target.address)
    let dtype = target.dtype
    forEachRandomBlock(of: target, stream, grain: 2048) { range, words in
      var values = SIMD4<Double>()
      for pair in [0, 2] {
        let u1 = (Double(words[pair]) + 1) * 0x1p-32
        let angle = 2 * Double.pi * (Double(words[pair + 1]) * 0x1p-32)
        let radius = (-2 * log(u1)).squareRoot() * deviation
        (values[pair], values[pair + 1]) = (mean + radius * cos(angle), mean + radius * sin(angle))
      }
      for (index, word) in zip(range, 0..<4) { storeElement(to.value, dtype, index, values[word]) }
    }
  }

  /// Calls `body` with four elements (at the end fewer) of a tensor and the words of their block of the stream.
  private func forEachRandomBlock(
    of target: Tensor, _ stream: RandomStream, grain: Int,
    _ body: @Sendable (_ elements: Range<Int>, _ words: SIMD4<UInt32>) -> Void
  ) {
    let count = target.elementCount
    pool.forEachRange((count + 3) / 4, grain: grain) { range, _ in
      for block in range {
        body(
          4 * block..<min(count, 4 * block + 4),
          Philox.block(UInt64(block), seed: stream.seed, stream: stream.stream))
      }
    }
  }
}
