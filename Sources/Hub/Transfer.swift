import CCurl
import Glibc

/// One request and its answer, in the hands of `Connections`. Redirects are answers: who follows one decides what is
/// sent along.
final class Transfer {
  struct Request {
    var url: String
    var headers: [String] = []
    /// The head of the answer alone.
    var isHead = false
  }

  let request: Request
  /// 0 until an answer has begun.
  private(set) var status = 0
  /// The headers of the answer by their names in small letters.
  private(set) var headers: [String: String] = [:]
  /// Where a redirect leads, as a whole address.
  private(set) var redirect: String?
  /// What went wrong with the connection; nil for an answer that arrived whole.
  private(set) var failure: String?
  /// Whether that is a name or a certificate, which seldom changes by waiting.
  private(set) var isUnreachable = false
  private let (unknownProxy, unknownHost, badCertificate): (Int32, Int32, Int32) = (5, 6, 60)
  /// Takes pieces of the body once the headers are there; false ends the transfer.
  private let take: (Transfer, UnsafeRawBufferPointer) -> Bool

  private let curl: CurlLibrary
  let handle: CurlLibrary.Handle
  private var list: CurlLibrary.Handle?

  init(
    _ request: Request, _ settings: HubSettings, _ curl: CurlLibrary,
    take: @escaping (Transfer, UnsafeRawBufferPointer) -> Bool
  ) throws(HubError) {
    guard let handle = curl.makeEasy() else { throw .noLibrary(reason: "out of memory") }
    (self.request, self.curl, self.handle, self.take) = (request, curl, handle, take)
    for header in request.headers { list = curl.append(list, header) }
    set(CURL_OPTION_URL, request.url)
    set(CURL_OPTION_USER_AGENT, "qlora-run")
    set(CURL_OPTION_HEADERS, list)
    set(CURL_OPTION_NO_BODY, request.isHead ? 1 : 0)
    set(CURL_OPTION_NO_SIGNAL, 1)
    set(CURL_OPTION_SUPPRESS_CONNECT_HEADERS, 1)
    // HTTP and HTTPS. With HTTP/1.1 each transfer has a connection of its own.
    set(CURL_OPTION_PROTOCOLS, 1 | 2)
    set(CURL_OPTION_HTTP_VERSION, 2)
    set(CURL_OPTION_CONNECT_TIMEOUT, 20)
    set(CURL_OPTION_LOW_SPEED_LIMIT, 1)
    set(CURL_OPTION_LOW_SPEED_TIME, 30)
    if let certificates = settings.certificates { set(CURL_OPTION_CA_FILE, certificates) }
    let context = Unmanaged.passUnretained(self).toOpaque()
    let onBody: Callback = { bytes, size, count, context in
      let transfer = Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
      let count = size * count
      return transfer.take(transfer, UnsafeRawBufferPointer(start: bytes, count: count)) ? count : 0
    }
    let onHeader: Callback = { bytes, size, count, context in
      let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
      Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue().takeHeader(String(decoding: line, as: UTF8.self))
      return size * count
    }
    set(CURL_OPTION_WRITE_FUNCTION, unsafeBitCast(onBody, to: UnsafeRawPointer.self))
    set(CURL_OPTION_HEADER_FUNCTION, unsafeBitCast(onHeader, to: UnsafeRawPointer.self))
    set(CURL_OPTION_WRITE_DATA, context)
    set(CURL_OPTION_HEADER_DATA, context)
  }

  deinit {
    curl.freeEasy(handle)
    curl.freeList(list)
  }

  private typealias Callback =
    @convention(c) (UnsafeRawPointer?, Int, Int, UnsafeMutableRawPointer?) -> Int

  private func set(_ option: curl_option, _ value: Int) {
    _ = curl_set_number(curl.setOption, handle, Int32(option.rawValue), value)
  }

  private func set(_ option: curl_option, _ value: UnsafeRawPointer?) {
    _ = curl_set_pointer(curl.setOption, handle, Int32(option.rawValue), value)
  }

  /// libcurl copies texts.
  private func set(_ option: curl_option, _ text: String) {
    text.withCString { _ = curl_set_pointer(curl.setOption, handle, Int32(option.rawValue), $0) }
  }

  private func takeHeader(_ line: String) {
    // A line of status begins an answer; one before it was not the last word.
    if line.hasPrefix("HTTP/") {
      headers = [:]
      var number = 0
      _ = curl_get_number(curl.getInfo, handle, Int32(CURL_INFO_STATUS.rawValue), &number)
      let words = line.split(separator: " ")
      status = words.count > 1 ? Int(words[1].prefix { $0.isNumber }) ?? number : number
      return
    }
    guard let colon = line.firstIndex(of: ":"), headers.count < 200 else { return }
    let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
    let end = value.lastIndex { !$0.isWhitespace && !$0.isNewline }
    headers[line[..<colon].lowercased()] = end.map { String(value[...$0]) } ?? ""
  }

  /// libcurl is done with the request.
  func end(_ result: Int32) {
    var target: UnsafeMutablePointer<CChar>?
    if curl_get_text(curl.getInfo, handle, Int32(CURL_INFO_REDIRECT_URL.rawValue), &target) == 0, let target {
      redirect = String(cString: target)
    }
    isUnreachable = [unknownProxy, unknownHost, badCertificate].contains(result)
    if result != 0 { failure = String(cString: curl.words(result)) }
  }

  /// An ETag as the names of blobs have it: without quotes and the sign of a weak one.
  static func plain(_ etag: String) -> String {
    (etag.hasPrefix("W/") ? etag.dropFirst(2) : etag[...]).filter { $0 != "\"" }
  }

  /// The seconds that the server asks to wait; a date counts as a minute.
  var retryAfter: Int? { headers["retry-after"].map { Int($0).map { max(0, $0) } ?? 60 } }
}
