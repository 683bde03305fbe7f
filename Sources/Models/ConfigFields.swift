import Formats

/// Typed access to config.json: absent and null give nil, a value of another kind is an error that names the field.
/// Where null is no value, `ConfigTable` refuses it.
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

  /// One token id or a list of them; none when absent or null.
  package func tokenIDs(_ name: String) throws(FormatError) -> [Int] {
    guard let value = json[name], !value.isNull else { return [] }
    let ids = (value.array ?? [value]).map(\.int)
    guard !ids.contains(nil) else {
      throw .badField(path: path, field: name, value: value.text(), expected: "a token id or a list of them")
    }
    return ids.compactMap { $0 }
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

  /// layer_types; nil when absent or null. `attention` is the older name of full_attention.
  func layerTypes(count: Int) throws(FormatError) -> [DecoderSpec.Layer.Kind]? {
    let names = DecoderSpec.Layer.Kind.allCases.map(\.rawValue).joined(separator: ", ")
    return try perLayer("layer_types", count: count, expected: "one of \(names)") { type in
      type.string == "attention" ? .full : type.string.flatMap { DecoderSpec.Layer.Kind(rawValue: $0) }
    }
  }

  /// layer_types as whether each layer's attention slides; nil when absent or null.
  package func slidingLayers(count: Int) throws(FormatError) -> [Bool]? {
    try layerTypes(count: count)?.map { $0 == .sliding }
  }
}

extension DecoderSpec.Layer {
  /// What layer_types of config.json calls a layer.
  enum Kind: String, CaseIterable {
    case full = "full_attention"
    case sliding = "sliding_attention"
    case linear = "linear_attention"
  }

  var type: Kind { isRecurrent ? .linear : window == nil ? .full : .sliding }
}
