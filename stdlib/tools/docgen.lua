-- Writes docs/lua-reference.md and stdlib/meta/native.gen.lua from the declarations of the native functions.
--
--   qlora-run stdlib/tools/docgen.lua        (make reference)
local native = require "qlora.native"

local markdown, annotations = native.reference()
native.mkdir(native.resource "docs")
native.mkdir(native.resource "stdlib/meta")
native.write_file(native.resource "docs/lua-reference.md", markdown)
native.write_file(native.resource "stdlib/meta/native.gen.lua", annotations)
print("wrote docs/lua-reference.md and stdlib/meta/native.gen.lua")
