import Formats

/// Why something of the hub cannot be had. `url` is what was asked for, without a query.
package enum HubError: Error, Sendable, Equatable {
  /// libcurl cannot be opened; `reason` is the system's.
  case noLibrary(reason: String)
  /// HF_HUB_OFFLINE is set, and the cache lacks this.
  case offline(name: String)
  /// A confined program does not use the network.
  case confined(name: String)
  /// The address of the hub, of HF_ENDPOINT, is none.
  case badEndpoint(String)
  /// The connection failed or broke, again and again.
  case connection(url: String, reason: String)
  /// The server answered with an error; `message` is what it said, cut short.
  case status(url: String, code: Int, message: String)
  /// Too many requests; the server asks to wait longer than the program does.
  case tooManyRequests(url: String, seconds: Int)
  /// An answer is not what the hub sends.
  case badAnswer(url: String, problem: String)
  /// The repository does not exist or is private, and the request was made with or without a token.
  case noRepository(name: String, endpoint: String, hasToken: Bool)
  case noRevision(name: String, revision: String)
  /// The repository has no such file; `names` are those it has that could be meant.
  case noFile(name: String, file: String, names: [String])
  /// The repository's owner admits only who accepted the terms on `page`.
  case gated(name: String, page: String, hasToken: Bool)
  /// The server does not take the token.
  case badToken(name: String, page: String)
  /// Bytes arrived that are not those of the repository.
  case checksum(file: String, expected: String, found: String)
  /// Several files could be meant.
  case ambiguous(name: String, names: [String])
  /// A name that may be a path: it is none here, and the hub did not give it.
  indirect case neither(path: String, HubError)
  /// Nothing in the repository can be read; `found` are the kinds of files it has.
  case nothingReadable(name: String, wanted: String, found: [String])
  case interrupted
}

extension HubError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .noLibrary(let reason):
      "fetching needs libcurl, which cannot be opened (\(reason)); install libcurl4 (Debian 12, Ubuntu 22.04) or "
        + "libcurl4t64 (newer ones)"
    case .offline(let name): "\(name) is not in the cache, and HF_HUB_OFFLINE forbids fetching it"
    case .confined(let name): "\(name): a confined program fetches nothing"
    case .badEndpoint(let text): "HF_ENDPOINT is \"\(text)\", expected an address such as https://huggingface.co"
    case .connection(let url, let reason): "\(url): \(reason); what has arrived is kept, fetch again to go on"
    case .status(let url, let code, let message):
      "\(url): the server answered \(code)" + (message.isEmpty ? "" : ": \(message)")
    case .tooManyRequests(let url, let seconds):
      "\(url): too many requests; the server asks to wait \(seconds) s. Fetch again then, or with a token of yours "
        + "(HF_TOKEN), which has a higher limit"
    case .badAnswer(let url, let problem): "\(url): \(problem)"
    case .noRepository(let name, let endpoint, let hasToken):
      "\(endpoint) has no repository \(name), or it is private"
        + (hasToken
          ? " and your token may not read it" : "; for a private one set HF_TOKEN to a token that may read it")
    case .noRevision(let name, let revision): "\(name) has no branch, tag or commit \(revision)"
    case .noFile(let name, let file, let names):
      "\(name) has no file \(file)" + (names.isEmpty ? "" : "; it has \(HubError.list(names))")
    case .gated(let name, let page, let hasToken):
      "\(name) is gated: accept its terms on \(page)"
        + (hasToken
          ? " with the account of your token, and wait where its owner has to agree; the token needs the right to read "
            + "gated repositories"
          : ", make a token on \(HubError.tokenPage(page)), and set HF_TOKEN to it")
    case .badToken(let name, let page):
      "\(name): the token (HF_TOKEN, or the file that `hf auth login` writes) is not valid; make one on "
        + HubError.tokenPage(page)
    case .checksum(let file, let expected, let found):
      "\(file) arrived with the checksum \(found), expected \(expected), twice; what arrived is removed"
    case .ambiguous(let name, let names): "\(name) has several files; name one of \(HubError.list(names))"
    case .nothingReadable(let name, let wanted, let found):
      "\(name) has no \(wanted)" + (found.isEmpty ? "" : "; its \(found.joined(separator: ", ")) are not read")
    case .neither(let path, let error): "there is no \(path) here, and as a name of the hub: \(error)"
    case .interrupted: "interrupted"
    }
  }

  private static func list(_ names: [String]) -> String {
    names.prefix(20).joined(separator: ", ") + (names.count > 20 ? " and \(names.count - 20) more" : "")
  }

  /// Where tokens are made, beside a repository's page.
  private static func tokenPage(_ page: String) -> String { (Address(page)?.origin ?? page) + "/settings/tokens" }
}
