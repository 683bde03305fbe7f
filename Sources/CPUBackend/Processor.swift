import Glibc

/// The processor of this machine, as the kernel of the system describes it.
package enum Processor {
  /// The maker's name with family and model, such as "AMD EPYC (family 25 model 17)": servers of one name differ.
  package static let name: String = {
    let fields = description
    guard let name = fields["model name"] else { return "unknown processor" }
    guard let family = fields["cpu family"], let model = fields["model"] else { return name }
    return "\(name) (family \(family) model \(model))"
  }()

  /// Processors that this process may use.
  package static var count: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

  /// The fields of the first processor.
  private static var description: [String: String] {
    guard let file = fopen("/proc/cpuinfo", "r") else { return [:] }
    defer { fclose(file) }
    var fields: [String: String] = [:]
    var line = [CChar](repeating: 0, count: 512)
    while fgets(&line, 512, file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      guard let colon = text.firstIndex(of: ":") else { continue }
      let name = text[..<colon].split(whereSeparator: \.isWhitespace).joined(separator: " ")
      let value = text[text.index(after: colon)...].split(whereSeparator: \.isWhitespace).joined(separator: " ")
      if fields[name] == nil { fields[name] = value }
    }
    return fields
  }
}
