--- params.json of a run directory: what the last session ran with, which `--resume DIR` alone takes up again, and what
--- reports, the index and `qlora-run show` tell.
local native = require "qlora.native"
local command_line = require "qlora.run_command"
local json = require "qlora.json"
local json_file = require "qlora.json_file"
local params = require "qlora.params"
local place = require "qlora.run_place"

local run_params = {}

local kinds = { params = "table", settings = "table", set = "table of strings", arguments = "list of strings",
  started = "string", recipe = "string", version = "string", seed = "whole number", command = "string" }

local function path_of(dir) return dir .. "/params.json" end

--- What params.json says, checked. Raises where a directory has none.
function run_params.read(dir)
  return json_file.read(path_of(dir), kinds)
    or error(("%s is no run directory: it has no params.json"):format(dir), 0)
end

--- Writes params.json.
function run_params.write(dir, description) native.write_file(path_of(dir), json.encode(description) .. "\n") end

--- Writes the recipe's source and what this session runs with into a run directory, and returns the latter. Of a run
--- that goes on (`resumes`) the first session's start and version stay, and what was not given anew in `settings`.
function run_params.describe(dir, settings, resumes)
  local known = resumes and run_params.read(dir) or {}
  local own_copy = (native.options.script or ""):gsub("//+", "/") == (dir .. "/recipe.lua"):gsub("//+", "/")
  local script = resumes and own_copy and known.recipe or place.keep_recipe(dir)
  local description = {
    params = params.resolved or {}, version = known.version or native.version, seed = native.options.seed,
    recipe = script, set = next(native.options.set or {}) and native.options.set,
    arguments = arg and arg[1] and { table.unpack(arg) }, command = script and command_line(script) or nil,
    started = known.started or os.date("!%Y-%m-%dT%H:%M:%SZ"), settings = settings or known.settings,
  }
  run_params.write(dir, description)
  return description
end

return run_params
