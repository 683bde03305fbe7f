--- How an object was made: models, optimizers and data sets keep what decides a run of the call that made them, so that
--- a report can tell it.
local made = {}

-- An object that nobody holds is forgotten.
local calls = setmetatable({}, { __mode = "k" })

--- Notes the settings, by name, with which `object` was made; returns `object`.
function made.note(object, settings)
  calls[object] = settings
  return object
end

--- The settings with which `object` was made, by name; empty for one that was made otherwise.
function made.of(object) return calls[object] or {} end

return made
