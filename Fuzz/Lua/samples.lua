--- Records as samples: each file under each format and template, read to the last label.
local root = ...
local native = require "qlora.native"
local qlora = require "qlora"

local tokenizer = native.tokenizer.load(root .. "/models/tiny")
local strict = require "qlora.strict"
local formats = strict.sorted_keys(qlora.data.formats)
local templates = strict.sorted_keys(qlora.chat.templates)

return {
  read = function(folder, choice)
    math.randomseed(choice)
    for _, name in ipairs(native.list_dir(folder)) do
      local format = formats[math.random(#formats)]
      if math.random(2) == 1 then format = name:match "^([%w_]+)" end
      local data = qlora.data.load(folder .. "/" .. name, { format = format, tokenizer = tokenizer,
        template = templates[math.random(#templates)], max_length = math.random(4, 64), quiet = true })
      data:stats()
      for i = 1, #data do assert(#data[i].ids == #data[i].labels) end
      data:batch { 1 }
    end
  end,
}
