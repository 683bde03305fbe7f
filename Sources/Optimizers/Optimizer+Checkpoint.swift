import Formats
import Tensors

extension Optimizer {
  /// The arrays of the state of a parameter as they are called in a file.
  package static func arrays(
    of name: String, count: Int, _ options: OptimizerOptions
  ) -> [(name: String, dtype: DType, shape: [Int])] {
    OptimizerState.arrays(options.rule, bits: OptimizerState.bits(options, count: count)).map {
      ("\(name).\($0.name)", $0.dtype, [$0.elementCount(count)])
    }
  }

  private func arrays(ofParameter index: Int) -> [(name: String, dtype: DType, shape: [Int])] {
    Optimizer.arrays(of: parameters[index].name, count: parameters[index].tensor.elementCount, options)
  }

  /// The state as named arrays for a safetensors file: `<parameter>.<array>`, written page by page, so that a paged
  /// optimizer is saved within its budget.
  /// - Throws: `OptimizerError.unfinishedStep`.
  package func checkpointItems() throws -> [SafetensorsWriter.Item] {
    try requireWholeStep()
    return parameters.indices.flatMap { index in
      arrays(ofParameter: index).enumerated().map { position, array in
        SafetensorsWriter.Item(name: array.name, dtype: array.dtype, shape: array.shape) { sink in
          for (number, page) in self.pages.enumerated() {
            for (place, segment) in page.segments.enumerated() where segment.parameter == index {
              try self.withPage(number, isDirty: false) { try $0[place][position].withHostBytes(sink) }
            }
          }
        }
      }
    }
  }

  /// Restores what `checkpointItems` wrote; everything is checked before anything is changed. `others` are arrays of
  /// the file that belong to optimizers of other processes.
  /// - Throws: `OptimizerError.stateMismatch`, also for an array that nothing takes; `FormatError`.
  package func restore(from file: SafetensorsFile, stepCount: Int, besides others: Set<String> = []) throws {
    try restore(stepCount: stepCount, source: file.path, names: names(of: file, besides: others)) { name in
      Self.array(name, of: file)
    }
  }

  /// Whether `restore` can take the arrays of a file, by their names, types and shapes; nothing changes.
  /// - Throws: `OptimizerError.stateMismatch`.
  package func check(_ file: SafetensorsFile, besides others: Set<String> = []) throws {
    try check(source: file.path, names: names(of: file, besides: others)) { name in Self.array(name, of: file) }
  }

  private func names(of file: SafetensorsFile, besides others: Set<String>) -> [String] {
    file.entries.map(\.name).filter { !others.contains($0) }
  }

  private static func array(_ name: String, of file: SafetensorsFile) -> StoredArray? {
    guard let entry = file.entry(name) else { return nil }
    return StoredArray(dtype: entry.type.dtype, shape: entry.shape) { range, target in
      let bytes = try file.bytes(of: name)
      let size = target.dtype.byteCount
      try target.write(UnsafeRawBufferPointer(rebasing: bytes[range.lowerBound * size..<range.upperBound * size]))
    }
  }

  /// Restores copies of the arrays, as `stateTensors` gives them.
  /// - Throws: `OptimizerError.stateMismatch`, `.badOption` for a number of steps that none can have.
  package func restore(from tensors: [String: Tensor], stepCount: Int) throws {
    try restore(stepCount: stepCount, source: "state", names: tensors.keys.sorted()) { name in
      tensors[name].map { tensor in
        StoredArray(dtype: tensor.dtype, shape: tensor.shape) { range, target in
          try target.backend.copy(try tensor.narrowed(0, range), into: target)
        }
      }
    }
  }

  /// The state as named tensors of their own: `<parameter>.<array>`.
  package func stateTensors() throws -> [String: Tensor] {
    var result: [String: Tensor] = [:]
    for item in try checkpointItems() {
      let tensor = try Tensor(
        empty: item.shape, dtype: item.dtype, category: .optimizer, on: parameters[0].tensor.backend)
      var offset = 0
      try item.write { bytes in
        let count = bytes.count / item.dtype.byteCount
        try tensor.narrowed(0, offset..<offset + count).write(bytes)
        offset += count
      }
      result[item.name] = tensor
    }
    return result
  }

  /// An array of a file or of `state`, and how a range of its elements is copied into a part of the state.
  private struct StoredArray {
    let dtype: DType?
    let shape: [Int]
    let copy: (Range<Int>, Tensor) throws -> Void
  }

  private func check(source: String, names: [String], find: (String) throws -> StoredArray?) throws {
    for index in parameters.indices {
      for (name, dtype, shape) in arrays(ofParameter: index) {
        guard let stored = try find(name) else {
          throw OptimizerError.stateMismatch(path: source, what: name, expected: "present", got: "missing")
        }
        guard stored.shape == shape, stored.dtype == dtype else {
          throw OptimizerError.stateMismatch(
            path: source, what: name, expected: "\(dtype.name) \(shape)",
            got: "\(stored.dtype?.name ?? "another type") \(stored.shape)")
        }
      }
    }
    let taken = Set(parameters.indices.flatMap { arrays(ofParameter: $0).map(\.name) })
    for name in names where !taken.contains(name) {
      throw OptimizerError.stateMismatch(path: source, what: name, expected: "absent", got: "present")
    }
  }

  private func restore(
    stepCount: Int, source: String, names: [String], find: (String) throws -> StoredArray?
  ) throws {
    // Steps are counted on from here.
    guard (0...1 << 53).contains(stepCount) else {
      throw OptimizerError.badOption(name: "step", value: "\(stepCount)", expected: "a whole number from 0 to 2^53")
    }
    try check(source: source, names: names, find: find)
    for (number, page) in pages.enumerated() {
      try withPage(number, isDirty: true) { arrays in
        for (segment, targets) in zip(page.segments, arrays) {
          for (slice, target) in zip(segment.slices, targets) where slice.elementCount > 0 {
            let name = "\(parameters[segment.parameter].name).\(slice.array.name)"
            let first = segment.range.lowerBound
            let start = slice.array.isPerBlock ? first / OptimizerState.blockSize : first
            try find(name)?.copy(start..<start + slice.elementCount, target)
          }
        }
      }
    }
    self.stepCount = stepCount
    unfinished = nil
  }
}
