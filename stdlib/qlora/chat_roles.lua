--- The roles of a chat under the model's own template. A role that the template's source never names is mostly a slip,
--- and a template that writes any role would have the model see it.
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local roles = {}

--- Names in data for the roles that templates name.
roles.aliases = { human = "user", prompter = "user", gpt = "assistant", bot = "assistant", model = "assistant",
  chatgpt = "assistant", chatbot = "assistant" }

local usual = { "system", "user", "assistant" }

-- Those that published templates name besides, for messages: a source has other short texts too.
local common = { "developer", "tool", "tool_response", "tool_call", "ipython", "function", "observation", "environment",
  "documents", "context", "latest_reminder", "root" }

local function is_text(node) return node.kind == "literal" and type(node.value) == "string" end

--- Adds the texts in a part of a parsed template to `set`, but for names of fields: x["key"], x.get("key"), "key" in x.
local function gather(node, set)
  if is_text(node) then
    set[node.value] = true
    return
  end
  local field
  if node.kind == "item" then field = node.key
  elseif node.kind == "call" and node.value.kind == "attribute" and node.value.name == "get" then
    field = node.args.positional[1]
  elseif node.kind == "compare" and #node.rest == 1 and node.rest[1][1]:find "in$" then
    local holder = node.rest[1][2]
    field = holder.kind ~= "list" and holder.kind ~= "tuple" and holder.name ~= "role" and node.first
  end
  for _, part in pairs(node) do
    if type(part) == "table" and not (part == field and is_text(part)) then
      if node.args == part and field then -- the arguments of get
        for i, argument in ipairs(part.positional) do if i > 1 then gather(argument, set) end end
      else gather(part, set) end
    end
  end
end

--- The texts that a template names, where a role or a kind may stand: a set. `statements` as jinja.parse gives them.
function roles.named(statements)
  local set = {}
  gather(statements, set)
  return set
end

--- An error for a role that is none of the usual ones, none that the template names, and none of `allowed`.
--- @param i integer number of the message
--- @param named table what roles.named gave
--- @param allowed? string[] roles that the recipe allows
--- @param is_request? boolean a client of a server asks, who has no options of Lua
function roles.check(i, role, named, allowed, is_request)
  local known, is_known = { table.unpack(usual) }, named[role] or false
  for _, name in ipairs(common) do if named[name] then known[#known + 1] = name end end
  for _, name in ipairs(allowed or {}) do known[#known + 1] = name end
  for _, name in ipairs(known) do is_known = is_known or name == role end
  if is_known then return end
  local words = { table.unpack(known) }
  for name in pairs(is_request and {} or roles.aliases) do words[#words + 1] = name end
  local near = role == "developer" and "system" or suggest.nearest(role, words)[1]
  strict.fail("chat: message %d has the role %s%s; the model's template names %s and %s%s", i, strict.show(role),
    suggest.meant(near) or "", table.concat(known, ", ", 1, #known - 1),
    known[#known], is_request and "" or ("; if it is meant, say roles = { %s }"):format(strict.show(role)))
end

return roles
