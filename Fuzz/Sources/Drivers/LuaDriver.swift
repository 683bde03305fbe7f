import Formats
import Glibc
import LuaBindings
import LuaRuntime

/// A driver whose work is written in Lua, in Fuzz/Lua: it reads with the library that recipes use.
///
/// The script gets the root of the package, a folder to write in, and a function that puts down what is about to be
/// done. It returns `{ read = function(folder, random), seeds = function(folder) }`; `random` is a number to choose
/// with.
final class LuaDriver: Driver {
  private let state: LuaState
  private let engine: Engine
  private let script: LuaTable
  private let scratch: String

  init(script name: String, _ scratch: String, _ place: Place) throws {
    guard let state = LuaState() else { throw FormatError.system(path: name, operation: "open Lua", code: ENOMEM) }
    self.state = state
    self.scratch = scratch
    var options = RunOptions()
    (options.memoryLimit, options.threads, options.quiet) = (place.memory, 1, true)
    engine = Engine(options: options, resourceRoot: place.root)
    engine.install(in: state)
    state.globals["package"].asTable?["path"] = .string("\(place.root)/stdlib/?.lua;\(place.root)/stdlib/?/init.lua")
    // Names that hostile calls write under are relative.
    try FileSystem.makeDirectory(scratch + "/work")
    guard chdir(scratch + "/work") == 0 else {
      throw FormatError.system(path: scratch, operation: "enter", code: errno)
    }
    let path = "\(place.root)/Fuzz/Lua/\(name).lua"
    let chunk = try state.load(try MappedFile(path: path).withBytes { Array($0) }, chunkName: "@" + path)
    let note = state.function { [record = place.record] _, arguments in
      record?.note = arguments.first?.asString ?? ""
      return []
    }
    guard let made = try chunk.call([.string(place.root), .string(scratch), note]).first?.asTable else {
      throw LuaError(message: "\(path) returns no table")
    }
    self.script = made
  }

  /// The seeds that the script writes itself, as the program of today writes them.
  func seeds() throws -> [Input] {
    let folder = scratch + "/seeds"
    try FileSystem.makeDirectory(folder)
    try script["seeds"].asFunction?.call([.string(folder)])
    return try Corpus(folder: folder).seeds
  }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    try script["read"].asFunction?.call([.string(folder), .integer(Int(truncatingIfNeeded: random.next()))])
  }
}
