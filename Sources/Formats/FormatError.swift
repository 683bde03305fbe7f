import Glibc

/// Everything that can be wrong with a file. Cases carry the values; the wording is in `description`.
public enum FormatError: Error, Sendable, Equatable {
  /// A system call failed; `code` is errno.
  case system(path: String, operation: String, code: Int32)
  /// Text that is no JSON value; `line` counts from 1, `offset` is in bytes.
  case json(path: String?, line: Int, offset: Int, problem: JSONProblem)
  /// A range that the file declares does not lie inside the file.
  case outOfBounds(path: String, what: String, offset: UInt64, count: UInt64, size: UInt64)
  /// A field has a value that the format does not allow.
  case badField(path: String, field: String, value: String, expected: String)
  /// A name that must be unique occurs twice.
  case duplicate(path: String, name: String)
  /// The file does not start as the format demands.
  case notThisFormat(path: String, expected: String)
  /// A tensor is stored in a type that cannot be read.
  case unsupportedType(path: String, tensor: String, type: String, supported: [String])
  /// The file or folder lacks a tensor.
  case missingTensor(path: String, tensor: String)
  /// The index names a shard that is not in its folder.
  case missingShard(index: String, shard: String, tensor: String)
  /// The folder holds none of the files in `looked`; `instead` says what weights it has in other forms.
  case missingFile(path: String, looked: [String], instead: String? = nil)
  /// The file is what Git keeps in the place of a large file, not the file.
  case gitPointer(path: String)
  /// A stored tensor has another shape than the reader expects.
  case shape(path: String, tensor: String, expected: [Int], actual: [Int])
  /// The tensor has fewer rows than are asked for.
  case rows(path: String, tensor: String, rows: Range<Int>, available: Int)
  /// A field of a model configuration has a value that is not implemented.
  case unsupportedModel(path: String, field: String, value: String, supported: [String])
  /// A model of a family that is not implemented; `nearest` is the implemented one that is most like it, and
  /// `difference` what sets it apart from that, where known.
  case unsupportedFamily(
    path: String, field: String, value: String, nearest: String?, difference: String?, supported: [String])
  /// A field that no table of the engine has and that may change what is computed.
  case unknownField(path: String, field: String, value: String)
  /// Records in a kind of file that cannot be read.
  case unsupportedFile(path: String, ending: String, supported: [String])
  /// A model name that is no folder and is in none of the cache folders in `looked`.
  case notCached(name: String, looked: [String])
  /// A record of a data file is malformed; `line` counts from 1.
  case record(path: String, line: Int, problem: String)
  /// What is to be replaced is of another kind.
  case wrongKind(path: String, found: FileKind, wanted: FileKind)
  /// A folder that is to be replaced as a whole holds something that does not belong to it.
  case foreign(path: String, name: String)
  /// These things in the folder would be read in the place of what is saved, or together with it.
  case conflict(path: String, names: [String])
  /// A file that was written does not read back as it was, from the system's memory or the disk; `what` is the first
  /// part that differs.
  case readsBackDifferently(path: String, what: String)
  /// A confined program may not use the path so.
  case confined(path: String, use: String)
  /// The output exists already.
  case alreadyExists(path: String)
  /// The file system has fewer free bytes than are to be written.
  case diskTooSmall(path: String, needed: Int, free: Int)
  /// A file, or its line in the list of checksums beside it, is not what was written.
  case checksum(path: String, list: String)
  /// A file that a list of checksums does not know.
  case unlisted(path: String, list: String)
  /// Another process holds the lock; `owner` is who it says it is.
  case locked(path: String, owner: String)
  /// A stored tensor has another element type than the reader expects.
  case dtype(path: String, tensor: String, expected: String, actual: String)
  /// The file has a tensor that nothing takes.
  case unexpectedTensor(path: String, tensor: String)
}

/// Why a JSON text cannot be parsed.
public enum JSONProblem: Error, Sendable, Equatable {
  /// The text ends before the value does.
  case unexpectedEnd
  /// No value or separator can start with this byte here.
  case unexpectedByte(UInt8)
  /// Arrays and objects are nested more than `limit` levels deep.
  case tooDeep(limit: Int)
  /// A backslash is followed by a letter that RFC 8259 does not know.
  case badEscape
  /// The bytes of a string are not UTF-8.
  case badUTF8
  /// A string holds a byte below 0x20.
  case controlCharacter
  /// A `\u` escape is half of a surrogate pair.
  case loneSurrogate
  /// Digits are missing or misplaced.
  case badNumber
  /// The number is larger than any finite double.
  case numberOutOfRange
  /// Something but white space follows the value.
  case trailingContent
  /// An object has a key twice, where that is refused.
  case repeatedKey(String)
  /// An integer beyond 64 bits would lose digits, where that is refused.
  case inexactInteger
}

extension JSONProblem: CustomStringConvertible {
  /// The problem in words, without its place.
  public var description: String {
    switch self {
    case .unexpectedEnd: "unexpected end of text"
    case .unexpectedByte(let byte):
      byte >= 0x20 && byte < 0x7F
        ? "unexpected character '\(Character(UnicodeScalar(byte)))'" : "unexpected byte \(byte)"
    case .tooDeep(let limit): "nested more than \(limit) levels deep"
    case .badEscape: "unknown escape sequence in a string"
    case .badUTF8: "a string is not valid UTF-8"
    case .controlCharacter: "control character inside a string; write it as \\u00XX"
    case .loneSurrogate: "unpaired surrogate escape in a string"
    case .badNumber: "malformed number"
    case .numberOutOfRange: "number too large for a double"
    case .trailingContent: "content after the end of the value"
    case .repeatedKey(let key): "the key \"\(key)\" occurs twice in an object"
    case .inexactInteger: "an integer beyond 64 bits would lose digits; write it in quotes"
    }
  }
}

extension FormatError: CustomStringConvertible {
  /// One sentence that names the file and, where there is one, the remedy.
  public var description: String {
    switch self {
    case .system(let path, let operation, let code):
      "\(path): \(operation) failed: \(String(cString: strerror(code)))"
    case .json(let path, let line, let offset, let problem):
      "\(path ?? "JSON text"): line \(line) (byte \(offset)): \(problem)"
    case .outOfBounds(let path, let what, let offset, let count, let size):
      "\(path): \(what) takes \(count) bytes at offset \(offset), but there are \(size) bytes; "
        + "the file is truncated or damaged, fetch it again"
    case .badField(let path, let field, let value, let expected):
      "\(path): \(field) is \(value), expected \(expected)"
    case .duplicate(let path, let name): "\(path): \(name) occurs twice"
    case .notThisFormat(let path, let expected): "\(path): not a \(expected) file; was the download complete?"
    case .unsupportedType(let path, let tensor, let type, let supported):
      "\(path): tensor \(tensor) is stored as \(type), which cannot be read; supported: "
        + supported.joined(separator: ", ")
    case .missingTensor(let path, let tensor): "\(path): there is no tensor \(tensor)"
    case .missingShard(let index, let shard, let tensor):
      "\(index): tensor \(tensor) should be in \(shard), but that file is missing; fetch it into the same folder"
    case .missingFile(let path, let looked, let instead):
      "\(path): found none of \(looked.joined(separator: ", "))" + (instead.map { "; " + $0 } ?? "")
    case .gitPointer(let path):
      "\(path): a Git LFS pointer of a few lines, not the file that it stands for; run git lfs pull in its folder, or "
        + "fetch the file again"
    case .shape(let path, let tensor, let expected, let actual):
      "\(path): tensor \(tensor) has shape \(actual), expected \(expected); do config and weights belong together?"
    case .rows(let path, let tensor, let rows, let available):
      "\(path): rows \(rows.lowerBound)..<\(rows.upperBound) of tensor \(tensor) wanted, it has \(available)"
    case .unsupportedModel(let path, let field, let value, let supported):
      "\(path): \(field) \(value) is not supported; supported: \(supported.joined(separator: ", "))"
    case .unsupportedFamily(let path, let field, let value, let nearest, let difference, let supported):
      "\(path): \(field) \(value) is not supported"
        + (nearest.map { "; the nearest that is: \($0)" } ?? "")
        + (difference.map { "; what it has besides: \($0)" } ?? "")
        + "; supported: \(supported.joined(separator: ", "))"
    case .unknownField(let path, let field, let value):
      "\(path): \(field) = \(value) is a field that this program does not know and that may change the arithmetic"
    case .unsupportedFile(let path, let ending, let supported):
      "\(path): files that end in .\(ending) cannot be read; supported: \(supported.joined(separator: ", "))"
    case .notCached(let name, let looked):
      "model \(name) is not on this machine: no folder of this name, and nothing in the cache; looked in "
        + "\(looked.joined(separator: ", "))"
    case .record(let path, let line, let problem): "\(path): line \(line): \(problem)"
    case .wrongKind(let path, let found, let wanted):
      "\(path): is a \(found.rawValue), and a \(wanted.rawValue) is to be written there; name another place"
    case .foreign(let path, let name):
      "\(path): holds \(name), which does not belong to what is saved there; name another folder"
    case .conflict(let path, let names):
      "\(path): holds \(names.joined(separator: ", ")), which readers would take in the place of what is saved, or "
        + "together with it; remove \(names.count == 1 ? "it" : "them") or name another folder"
    case .readsBackDifferently(let path, let what):
      "\(path): was written, but \(what) reads back differently, so it was not put in place; the memory, the "
        + "file system or the engine is at fault"
    case .confined(let path, let use): "\(path): this sandbox does not let it be \(use)"
    case .alreadyExists(let path): "\(path): already exists; remove it or name another place"
    case .diskTooSmall(let path, let needed, let free):
      "\(path): \(needed) bytes are to be written, but the disk has \(free) free; make room or name another place"
    case .checksum(let path, let list):
      "\(path): the bytes are not those that were written, by their checksum in \(list); one of the two is damaged"
    case .unlisted(let path, let list):
      "\(path): a file that was not written with the others, by \(list); move it elsewhere"
    case .locked(let path, let owner): "\(path): in use by \(owner)"
    case .dtype(let path, let tensor, let expected, let actual):
      "\(path): tensor \(tensor) is \(actual), expected \(expected)"
    case .unexpectedTensor(let path, let tensor): "\(path): nothing takes tensor \(tensor)"
    }
  }
}
