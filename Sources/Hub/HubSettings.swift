import Formats
import Glibc

/// What the environment says of the hub, by the names that huggingface_hub reads.
package struct HubSettings: Sendable {
  /// `HF_ENDPOINT`, without a slash at its end.
  package var endpoint: String
  /// `HF_TOKEN`, else the text of the token file.
  package var token: String?
  /// `HF_HUB_OFFLINE`.
  package var isOffline: Bool
  /// The cache.
  package var folder: String
  /// Certificates in the place of the system's: `CURL_CA_BUNDLE`, `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`.
  package var certificates: String?

  /// - Throws: `HubError.badEndpoint`.
  package init(_ environment: (String) -> String? = HubCache.variable) throws(HubError) {
    var endpoint = environment("HF_ENDPOINT") ?? "https://huggingface.co"
    while endpoint.hasSuffix("/") { endpoint.removeLast() }
    guard let address = Address(endpoint), !address.hasUser else { throw .badEndpoint(endpoint) }
    self.endpoint = endpoint
    folder = HubCache.folder(environment)
    isOffline = ["1", "on", "yes", "true"].contains((environment("HF_HUB_OFFLINE") ?? "").lowercased())
    certificates = ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"].lazy.compactMap(environment).first
    let file = environment("HF_TOKEN_PATH") ?? HubCache.home(environment) + "/token"
    let token =
      environment("HF_TOKEN") ?? environment("HUGGING_FACE_HUB_TOKEN")
      ?? (try? MappedFile(path: file).withBytes { String(decoding: $0, as: UTF8.self) })
    // A header is one line.
    let text = (token ?? "").filter { !$0.isWhitespace && !$0.isNewline }
    // A token that everybody on the way can read is not sent.
    self.token = text.isEmpty || !(address.isEncrypted || address.isLoopback) ? nil : text
  }
}

/// The parts of an address that decide who is spoken to.
struct Address {
  /// `https://host:port`, in small letters.
  let origin: String
  /// Whether a user stands before the host.
  let hasUser: Bool

  var isEncrypted: Bool { origin.hasPrefix("https:") }

  var isLoopback: Bool {
    let host = origin.split(separator: "/").last ?? ""
    return host.hasPrefix("[::1]")
      || ["localhost", "127.0.0.1"].contains(String(host.split(separator: ":").first ?? ""))
  }

  init?(_ text: String) {
    guard let scheme = ["https://", "http://"].first(where: { text.lowercased().hasPrefix($0) }) else { return nil }
    let authority = text.dropFirst(scheme.count).prefix { !"/?#\\".contains($0) }
    hasUser = authority.contains("@")
    let host = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
    guard !host.isEmpty, host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-_.:[]".contains($0)) }) else {
      return nil
    }
    origin = scheme + host.lowercased()
  }
}

extension String {
  /// For a part of an address: what is not a letter, a digit or one of `-._~` and of `kept` as %XX.
  func escaped(keeping kept: String = "") -> String {
    let digits = Array("0123456789ABCDEF")
    return utf8.map { byte -> String in
      let character = Character(UnicodeScalar(byte))
      let isPlain = byte < 0x80 && (character.isLetter || character.isNumber || "-._~".contains(character))
      return isPlain || byte < 0x80 && kept.contains(character)
        ? String(character) : "%" + String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
    }.joined()
  }

  /// An address without its query, which may hold a signature.
  var withoutQuery: String { String(prefix { $0 != "?" && $0 != "#" }) }
}
