extension String {
  /// This text as one word of a POSIX shell: as it is where no character means something there, else in single quotes.
  package var shellWord: String {
    wholeMatch(of: /[A-Za-z0-9_.\/@:+-]+/) != nil ? self : "'" + replacing("'", with: #"'\''"#) + "'"
  }
}
