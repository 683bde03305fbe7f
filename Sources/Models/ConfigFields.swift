import Formats

/// Typed access to config.json: absent and null give nil, a value of another kind is an error that names the field.
package struct ConfigFields {
  package let json: JSON
  package let path: String

  package func integer(_ name: String) throws(FormatError) -> Int? {
    guard let value = json[name], !value.isNull else { return nil }
    guard let int = value.int else {
      throw .badField(path: path, field: name, value: value.text(), expected: "an integer")
    }
    return int
  }

  package func required(_ name: String) throws(FormatError) -> Int {
    guard let value = try integer(name) else {
      throw .badField(path: path, field: name, value: "absent", expected: "an integer")
    }
    return value
  }

  package func double(_ name: String, in object: JSON? = nil) throws(FormatError) -> Double? {
    guard let value = (object ?? json)[name], !value.isNull else { return nil }
    guard let double = value.double else {
      throw .badField(path: path, field: name, value: value.text(), expected: "a number")
    }
    return double
  }

  package func bool(_ name: String) throws(FormatError) -> Bool? {
    guard let value = json[name], !value.isNull else { return nil }
    guard let bool = value.bool else {
      throw .badField(path: path, field: name, value: value.text(), expected: "true or false")
    }
    return bool
  }

  /// A list with one value for each layer; nil when absent or null.
  package func perLayer<T>(
    _ name: String, count: Int, expected: String, _ value: (JSON) -> T?
  ) throws(FormatError) -> [T]? {
    guard let list = json[name], !list.isNull else { return nil }
    let values = list.array?.compactMap(value) ?? []
    guard values.count == count, list.array?.count == count else {
      throw .badField(path: path, field: name, value: list.text(), expected: "\(expected) for each of \(count) layers")
    }
    return values
  }
}

/// Access to a GGUF file's metadata under the prefix of its architecture.
package struct GGUFFields {
  package let file: GGUFFile
  package let architecture: String

  package func integer(_ name: String) -> Int? { file.metadata["\(architecture).\(name)"]?.int }
  package func double(_ name: String) -> Double? { file.metadata["\(architecture).\(name)"]?.double }
  package func string(_ name: String) -> String? { file.metadata["\(architecture).\(name)"]?.string }

  package func required(_ name: String) throws(FormatError) -> Int {
    guard let value = integer(name) else {
      throw .badField(
        path: file.path, field: "\(architecture).\(name)",
        value: file.metadata["\(architecture).\(name)"].map { "\($0)" } ?? "absent", expected: "an integer")
    }
    return value
  }
}
