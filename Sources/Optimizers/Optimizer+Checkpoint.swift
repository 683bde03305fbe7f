import Formats
import Tensors

extension Optimizer {
  /// The state as named arrays for a safetensors file: `<parameter>.<array>`, written page by page, so that a paged
  /// optimizer is saved within its budget.
  public func checkpointItems() -> [SafetensorsWriter.Item] {
    parameters.indices.flatMap { index in
      arrays(index).enumerated().map { position, array in
        SafetensorsWriter.Item(
          name: "\(parameters[index].name).\(array.name)", dtype: array.dtype,
          shape: [array.elementCount(parameters[index].tensor.elementCount)]
        ) { sink in
          for number in self.pages.indices {
            for segment in self.pages[number].segments where segment.parameter == index {
              try self.withPage(number, isDirty: false) { base in
                let count = array.elementCount(segment.range.count) * array.dtype.byteCount
                try sink(UnsafeRawBufferPointer(start: base + segment.offsets[position], count: count))
              }
            }
          }
        }
      }
    }
  }

  /// Restores what `checkpointItems` wrote; everything is checked before anything is changed.
  /// - Throws: `OptimizerError.stateMismatch`, `FormatError`.
  public func restore(from file: SafetensorsFile, stepCount: Int) throws {
    try withExtendedLifetime(file) {
      try restore(stepCount: stepCount, source: file.path) { name in
        guard let entry = file.entry(name) else { return nil }
        return (entry.type.dtype, entry.shape, try file.bytes(of: name))
      }
    }
  }

  /// Restores copies of the arrays, as `stateTensors` gives them.
  /// - Throws: `OptimizerError.stateMismatch`.
  public func restore(from tensors: [String: Tensor], stepCount: Int) throws {
    let arrays = try tensors.mapValues { try $0.contiguous() }
    try withExtendedLifetime(arrays) {
      try restore(stepCount: stepCount, source: "state") { name in
        try arrays[name].map { tensor in (tensor.dtype, tensor.shape, try tensor.withHostBytes { $0 }) }
      }
    }
  }

  /// The state as named tensors of their own: `<parameter>.<array>`.
  public func stateTensors() throws -> [String: Tensor] {
    var result: [String: Tensor] = [:]
    for item in checkpointItems() {
      let tensor = try Tensor(
        empty: item.shape, dtype: item.dtype, category: .optimizer, on: parameters[0].tensor.backend)
      var offset = 0
      try item.write { bytes in
        try tensor.withMutableHostBytes { target in
          UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + bytes.count]).copyMemory(from: bytes)
        }
        offset += bytes.count
      }
      result[item.name] = tensor
    }
    return result
  }

  private typealias StoredArray = (dtype: DType?, shape: [Int], bytes: UnsafeRawBufferPointer)

  private func restore(stepCount: Int, source: String, find: (String) throws -> StoredArray?) throws {
    for index in parameters.indices {
      for array in arrays(index) {
        let name = "\(parameters[index].name).\(array.name)"
        let expected = [array.elementCount(parameters[index].tensor.elementCount)]
        guard let stored = try find(name) else {
          throw OptimizerError.stateMismatch(path: source, what: name, expected: "present", got: "missing")
        }
        guard stored.shape == expected, stored.dtype == array.dtype else {
          throw OptimizerError.stateMismatch(
            path: source, what: name, expected: "\(array.dtype.name) \(expected)",
            got: "\(stored.dtype?.name ?? "another type") \(stored.shape)")
        }
      }
    }
    for number in pages.indices {
      try withPage(number, isDirty: true) { base in
        for segment in pages[number].segments {
          for (position, array) in arrays(segment.parameter).enumerated() {
            guard let stored = try find("\(parameters[segment.parameter].name).\(array.name)") else { continue }
            let (size, range) = (array.dtype.byteCount, segment.range)
            let start = array.isPerBlock ? range.lowerBound / OptimizerState.blockSize : range.lowerBound
            let count = array.elementCount(range.count) * size
            guard count > 0, let bytes = stored.bytes.baseAddress else { continue }
            (base + segment.offsets[position]).copyMemory(from: bytes + start * size, byteCount: count)
          }
        }
      }
    }
    self.stepCount = stepCount
    unfinishedPage = nil
  }

  private func arrays(_ index: Int) -> [StateArray] {
    OptimizerState.arrays(options.update.rule, bits: bits[index])
  }
}
