--- `--resume DIR` without a recipe: goes on with the recipe, parameters, seed and arguments of the last session,
--- which lie in the run directory.
local native = require "qlora.native"
local run_params = require "qlora.run_params"

local recall = {}

--- Takes over what params.json of the run says; what the command line gives now goes first.
function recall.apply(dir)
  local known, options = run_params.read(dir), native.options
  for key, text in pairs(known.set or {}) do
    if options.set[key] == nil then options.set[key] = text end
  end
  if options.seed == nil and known.seed then
    options.seed = known.seed
    native.seed(known.seed)
    math.randomseed(known.seed)
  end
  if #arg == 0 then
    for i, word in ipairs(known.arguments or {}) do rawset(arg, i, word) end
  end
  -- Modules beside the recipe that was started.
  local folder = known.recipe and known.recipe:match "^(.*)/[^/]*$"
  if known.recipe then
    package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(folder or ".", folder or ".", package.path)
  end
end

return recall
