import Glibc

/// What a worker is told on its command line, and how it reads inputs one after the other.
struct Worker {
  let kind: DriverKind
  let seed: UInt64
  /// The first number, the distance to the next, and the first that is not read any more.
  let first: Int, stride: Int, end: Int
  /// Nanoseconds of `Record.now` at which to stop.
  let deadline: Int
  let scratch: String
  let place: Place

  func run() throws {
    guard let record = place.record else { throw UsageError(description: "\(scratch) holds no record to write to") }
    let supervisor = getppid()
    let (driver, corpus) = try kind.make(scratch, place)
    let folder = try Folder(scratch + "/input")
    for number in Swift.stride(from: first, to: end, by: stride) {
      // Nobody counts what a worker does whose supervisor is gone.
      guard Record.now < deadline, getppid() == supervisor else { return }
      var random = Random(driver: kind.name, seed: seed, number: number)
      let input =
        corpus.seeds.isEmpty ? Input(serialized: UnsafeRawBufferPointer(start: nil, count: 0)) : corpus.input(&random)
      record.begin(number, input.serialized)
      try folder.hold(input)
      do {
        try driver.read(folder.path, input, &random)
        record[.accepted] += 1
      } catch {
        record[.refused] += 1
        if kind.namesFiles, !"\(error)".contains(folder.path) {
          record[.unnamed] += 1
          record.note = "\(number): \(error)"
        }
      }
      record[.done] += 1
      record.end()
    }
  }

  /// Reads one kept input and says what happened.
  func replay(_ input: Input) throws {
    let (driver, _) = try kind.make(scratch, place)
    let folder = try Folder(scratch + "/input")
    try folder.hold(input)
    var random = Random(driver: kind.name, seed: seed, number: first)
    do {
      try driver.read(folder.path, input, &random)
      print("accepted")
    } catch {
      print("refused: \(error)")
    }
  }
}
