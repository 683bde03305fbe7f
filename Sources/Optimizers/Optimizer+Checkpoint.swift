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
          for number in self.pages.indices where self.pages[number].parameter == index {
            let page = self.pages[number]
            try self.withPage(number, isDirty: false) { base in
              let count = array.elementCount(page.range.count) * array.dtype.byteCount
              try sink(UnsafeRawBufferPointer(start: base + page.offsets[position], count: count))
            }
          }
        }
      }
    }
  }

  /// Restores what `checkpointItems` wrote; everything is checked before anything is changed.
  /// - Throws: `OptimizerError.stateMismatch`, `FormatError`.
  public func restore(from file: SafetensorsFile, stepCount: Int) throws {
    for index in parameters.indices {
      for array in arrays(index) {
        let name = "\(parameters[index].name).\(array.name)"
        let expected = [array.elementCount(parameters[index].tensor.elementCount)]
        guard let entry = file.entry(name) else {
          throw OptimizerError.stateMismatch(path: file.path, what: name, expected: "present", got: "missing")
        }
        guard entry.shape == expected, entry.type.dtype == array.dtype else {
          throw OptimizerError.stateMismatch(
            path: file.path, what: name, expected: "\(array.dtype.name) \(expected)",
            got: "\(entry.type.rawValue) \(entry.shape)")
        }
      }
    }
    for number in pages.indices {
      let page = pages[number]
      try withPage(number, isDirty: true) { base in
        for (position, array) in arrays(page.parameter).enumerated() {
          let bytes = try file.bytes(of: "\(parameters[page.parameter].name).\(array.name)")
          let size = array.dtype.byteCount
          let start = array.isPerBlock ? page.range.lowerBound / OptimizerState.blockSize : page.range.lowerBound
          let count = array.elementCount(page.range.count) * size
          withExtendedLifetime(file) {
            (base + page.offsets[position]).copyMemory(from: bytes.baseAddress! + start * size, byteCount: count)
          }
        }
      }
    }
    self.stepCount = stepCount
  }

  private func arrays(_ index: Int) -> [StateArray] {
    OptimizerState.arrays(options.update.rule, bits: bits[index])
  }
}
