/// Everything that can go wrong with a tokenizer. Cases carry the values; the wording is in `description`.
public enum TokenizerError: Error, Sendable, Equatable {
  /// A component of the file that this library does not know.
  case unsupported(file: String, field: String, value: String, supported: [String])
  case badField(file: String, field: String, value: String, expected: String)
  case missingField(file: String, field: String)
  case noTokenizer(directory: String)
  case badProtobuf(file: String, offset: Int, problem: String)
  case regexSyntax(file: String, pattern: String, offset: Int, problem: String)
  case regexMatch(pattern: String, problem: String)
  case idOutOfRange(id: Int32, vocabulary: Int)
  case tooLong(bytes: Int)
  case training(problem: TrainingProblem)

  public enum TrainingProblem: Sendable, Equatable {
    case vocabularyTooSmall(size: Int, minimum: Int)
    case duplicateSpecialToken(String)
    case emptySpecialToken
    case textTooLarge
  }
}

extension TokenizerError: CustomStringConvertible {
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
      "\(file): regular expression \(pattern): \(problem) at byte \(offset)"
    case .regexMatch(let pattern, let problem): "regular expression \(pattern): \(problem)"
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
