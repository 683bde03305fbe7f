/// Everything that can go wrong with a tokenizer. Cases carry the values; the wording is in `description`.
public enum TokenizerError: Error, Sendable, Equatable {
  /// A component of the file that this library does not know.
  case unsupported(file: String, field: String, value: String, supported: [String])
  /// A field has a value that the format does not allow.
  case badField(file: String, field: String, value: String, expected: String)
  /// A field that must be there is absent.
  case missingField(file: String, field: String)
  /// The folder has neither tokenizer.json nor tokenizer.model.
  case noTokenizer(directory: String)
  /// The bytes from `offset` on are no sentencepiece model.
  case badProtobuf(file: String, offset: Int, problem: String)
  /// A pattern cannot be compiled; `offset` is in its bytes, where the place is known.
  case regexSyntax(file: String, pattern: String, offset: Int?, problem: String)
  /// Matching a pattern failed, for lack of memory or at a limit of the matcher.
  case regexMatch(pattern: String, problem: String)
  /// Components of the file stand in more than `limit` others.
  case tooDeep(file: String, field: String, limit: Int)
  /// The normalizer or the decoder makes more than `limit` bytes of `bytes`.
  case grows(part: String, bytes: Int, limit: Int)
  /// The id is outside 0..<`vocabulary`.
  case idOutOfRange(id: Int32, vocabulary: Int)
  /// A text of 2^29 bytes or more.
  case tooLong(bytes: Int)
  /// A vocabulary cannot be trained.
  case training(problem: TrainingProblem)

  /// Why a vocabulary cannot be trained.
  public enum TrainingProblem: Sendable, Equatable {
    /// The wanted size leaves no room for 256 bytes and the special tokens, `minimum` in all.
    case vocabularyTooSmall(size: Int, minimum: Int)
    /// A special token is given twice, or is the letter of a byte.
    case duplicateSpecialToken(String)
    /// A special token has no characters.
    case emptySpecialToken
    /// The distinct words have 2^31 - 1 bytes or more.
    case textTooLarge
  }
}

extension TokenizerError: CustomStringConvertible {
  /// One sentence that names the file and the field.
  public var description: String {
    switch self {
    case .unsupported(let file, let field, let value, let supported):
      "\(file): \(field) \(value) is not supported; supported: \(supported.joined(separator: ", "))"
    case .badField(let file, let field, let value, let expected):
      "\(file): \(field) is \(value), expected \(expected)"
    case .missingField(let file, let field): "\(file): \(field) is missing"
    case .noTokenizer(let directory):
      "\(directory): neither tokenizer.json nor tokenizer.model found"
    case .badProtobuf(let file, let offset, let problem):
      "\(file): not a sentencepiece model: \(problem) at byte \(offset)"
    case .regexSyntax(let file, let pattern, let offset, let problem):
      "\(file): regular expression \(pattern): \(problem)" + (offset.map { " at byte \($0)" } ?? "")
    case .regexMatch(let pattern, let problem): "regular expression \(pattern): \(problem)"
    case .tooDeep(let file, let field, let limit): "\(file): \(field) stands in more than \(limit) components"
    case .grows(let part, let bytes, let limit):
      "the tokenizer's \(part) makes more than \(limit) bytes of a text of \(bytes) bytes"
    case .idOutOfRange(let id, let vocabulary):
      "token id \(id) is outside the vocabulary (ids are 0..\(vocabulary - 1))"
    case .tooLong(let bytes): "a text of \(bytes) bytes is too long to tokenize at once; split it"
    case .training(.vocabularyTooSmall(let size, let minimum)):
      "vocabulary size \(size) is too small: 256 bytes and the special tokens need \(minimum)"
    case .training(.duplicateSpecialToken(let token)): "special token '\(token)' is given twice"
    case .training(.emptySpecialToken): "a special token is empty"
    case .training(.textTooLarge): "the training texts hold more than 2^31 distinct word bytes; train on a sample"
    }
  }
}
