import CCurl
import Glibc

/// libcurl, opened at run time; see ccurl.h for why.
final class CurlLibrary: @unchecked Sendable {
  typealias Handle = UnsafeMutableRawPointer

  let setOption: UnsafeMutableRawPointer
  let getInfo: UnsafeMutableRawPointer
  let makeEasy: @convention(c) () -> Handle?
  let freeEasy: @convention(c) (Handle) -> Void
  let words: @convention(c) (Int32) -> UnsafePointer<CChar>
  let append: @convention(c) (Handle?, UnsafePointer<CChar>) -> Handle?
  let freeList: @convention(c) (Handle?) -> Void
  let makeMulti: @convention(c) () -> Handle?
  let freeMulti: @convention(c) (Handle) -> Int32
  let add: @convention(c) (Handle, Handle) -> Int32
  let remove: @convention(c) (Handle, Handle) -> Int32
  let perform: @convention(c) (Handle, UnsafeMutablePointer<Int32>) -> Int32
  let poll: @convention(c) (Handle, Handle?, UInt32, Int32, UnsafeMutablePointer<Int32>?) -> Int32
  let read: @convention(c) (Handle, UnsafeMutablePointer<Int32>) -> UnsafeMutablePointer<curl_message>?

  private static let opened = Result { try CurlLibrary() }

  /// - Throws: `HubError.noLibrary`.
  static func open() throws(HubError) -> CurlLibrary {
    do { return try opened.get() } catch { throw error as? HubError ?? .noLibrary(reason: "\(error)") }
  }

  private init() throws {
    let names = ["libcurl.so.4", "libcurl-gnutls.so.4"]
    guard let library = names.lazy.compactMap({ dlopen($0, RTLD_NOW | RTLD_LOCAL) }).first else {
      throw HubError.noLibrary(reason: dlerror().map { String(cString: $0) } ?? names[0])
    }
    func symbol(_ name: String) throws -> UnsafeMutableRawPointer {
      guard let found = dlsym(library, name) else { throw HubError.noLibrary(reason: "it lacks \(name)") }
      return found
    }
    func call<Call>(_ name: String, as type: Call.Type = Call.self) throws -> Call {
      unsafeBitCast(try symbol(name), to: type)
    }
    setOption = try symbol("curl_easy_setopt")
    getInfo = try symbol("curl_easy_getinfo")
    makeEasy = try call("curl_easy_init")
    freeEasy = try call("curl_easy_cleanup")
    words = try call("curl_easy_strerror")
    append = try call("curl_slist_append")
    freeList = try call("curl_slist_free_all")
    makeMulti = try call("curl_multi_init")
    freeMulti = try call("curl_multi_cleanup")
    add = try call("curl_multi_add_handle")
    remove = try call("curl_multi_remove_handle")
    perform = try call("curl_multi_perform")
    poll = try call("curl_multi_poll")
    read = try call("curl_multi_info_read")
    let start: @convention(c) (Int) -> Int32 = try call("curl_global_init")
    let everything = 3
    guard start(everything) == 0 else { throw HubError.noLibrary(reason: "it does not start") }
  }
}
