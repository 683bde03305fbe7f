import Tensors

/// Writes a safetensors file whose tensors are declared first and handed over in any order: what belongs together in
/// the model (the codes and scales of one matrix) lies apart in the file. Appears whole or not at all.
package final class SafetensorsAssembler {
  private let file: AtomicFile
  private var extents: [UTF8Key: Range<Int>]
  private var names: [UTF8Key: String] = [:]
  /// Bytes of the tensors, without the header.
  package let byteCount: Int

  package init(path: String, _ declarations: [(name: String, dtype: DType, shape: [Int])]) throws(FormatError) {
    let layout = try SafetensorsLayout(
      path: path, declarations.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
    extents = [:]
    for (declaration, extent) in zip(declarations, layout.extents) {
      extents[UTF8Key(declaration.name)] = extent
      names[UTF8Key(declaration.name)] = declaration.name
    }
    byteCount = layout.extents.reduce(0) { $0 + $1.count }
    file = try AtomicFile(path: path)
    try file.append(layout.header)
  }

  /// The bytes of one declared tensor, once.
  /// - Throws: `missingTensor` for a name not declared or already written, `badField` for another size.
  package func write(_ name: String, _ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    guard let extent = extents[UTF8Key(name)] else { throw .missingTensor(path: file.path, tensor: name) }
    guard extent.count == bytes.count else {
      throw .badField(
        path: file.path, field: "bytes given for \(name)", value: "\(bytes.count)", expected: "\(extent.count)")
    }
    try file.write(bytes, at: extent.lowerBound)
    extents[UTF8Key(name)] = nil
  }

  /// - Throws: `missingTensor` while a declared tensor has not been written.
  package func commit() throws(FormatError) {
    if let missing = extents.keys.first { throw .missingTensor(path: file.path, tensor: names[missing] ?? "") }
    try file.commit()
  }
}
