--- Examples of natives for files, run directories, the clock and the terminal; see qlora.reference.examples.
return {
  clock = "assert(qlora.native.clock() <= qlora.native.clock())",
  isatty = "local colour = qlora.native.isatty(1)",
  has_colours = "local colour = qlora.native.has_colours()",
  hub_folder = "assert(qlora.native.hub_folder():find 'hub')",
  terminal_width = "assert(qlora.native.terminal_width() > 0)",
  interrupted = "if qlora.native.interrupted() then return end",
  exit = [[
local ok, leaving = pcall(qlora.native.exit, 3) -- without pcall the program ends here
assert(not ok and leaving.exit_code == 3)]],
  mkdir = [[
qlora.native.mkdir "out/deep"
assert(qlora.native.exists "out/deep")]],
  list_dir = 'assert(qlora.native.list_dir "."[1] == "facts.jsonl")',
  exists = 'assert(qlora.native.exists "facts.jsonl")',
  remove_tree = [[
qlora.native.mkdir "out/deep"
qlora.native.remove_tree "out"
assert(not qlora.native.exists "out")]],
  write_file = 'qlora.native.write_file("note.txt", "one line\\n")',
  read_records = 'assert(#qlora.native.read_records("facts.jsonl", { limit = 3 }) == 3)',
  extend = [[
qlora.native.extend("Tensor", { double = function(self) return self * 2 end })
assert(qlora.ones(1):double():item() == 2)]],
  resource = 'assert(qlora.resource("models/tiny"):find "models/tiny$")',
  spill_directory = 'assert(qlora.native.spill_directory "." == ".")',
  save_checkpoint = [[
qlora.native.save_checkpoint("checkpoint", { model = model, optimizer = optimizer, samples = data.samples,
  loop = { seed = 1 }, state = { step = 3 } })
assert(qlora.native.load_checkpoint("checkpoint", model, optimizer).step == 3)]],
  load_checkpoint = [[
local function deciding(batch) return { samples = data.samples, loop = { batch = batch }, accept = { "batch" } } end
qlora.native.save_checkpoint("checkpoint", { model = model, optimizer = optimizer, samples = data.samples,
  loop = { batch = 16 }, state = { step = 3 } })
local state, changes = qlora.native.load_checkpoint("checkpoint", model, optimizer, deciding(8))
assert(state.step == 3 and changes[1].name == "batch" and changes[1].was == "16")]],
  verify_checkpoint = [[
qlora.native.save_checkpoint("checkpoint", { model = model, state = { step = 3 } })
qlora.native.verify_checkpoint "checkpoint"]],
  remove_checkpoint = [[
qlora.native.save_checkpoint("checkpoint", { model = model, state = { step = 3 } })
assert(qlora.native.remove_checkpoint "checkpoint" and not qlora.native.remove_checkpoint ".")]],
  lock_directory = [[
qlora.native.mkdir "shared"
assert(qlora.native.lock_directory "shared")]],
  unlock_directory = [[
qlora.native.mkdir "shared"
assert(qlora.native.lock_directory "shared")
qlora.native.unlock_directory "shared"]],
  locked_place = [[
qlora.native.mkdir "shared"
qlora.native.lock_directory "shared"
os.rename("shared", "elsewhere")
assert(qlora.native.locked_place "shared":find "elsewhere$")]],
  open_database = [[
local database <close> = qlora.native.open_database("notes.sqlite", { create = true })
database:query "CREATE TABLE notes (text TEXT)"]],
  break_prompt = "local go_on = qlora.native.break_prompt { step = 12 } -- false where no terminal is",
}
