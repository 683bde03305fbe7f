-- Writes docs/lua-reference.md and the annotations in stdlib/meta from the declarations and comments of the code.
--
--   qlora-run stdlib/tools/docgen.lua        (make reference)
local native = require "qlora.native"
local generated = require "qlora.reference.generated"

native.mkdir(native.resource "docs")
native.mkdir(native.resource "stdlib/meta")
for path, text in pairs(generated()) do
  native.write_file(native.resource(path), text)
  print("wrote " .. path)
end
