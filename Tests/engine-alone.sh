#!/usr/bin/env bash
# The engine without Lua: copies the tree without LuaBindings, LuaRuntime, qlora-run, what they need of C and their tests,
# builds the product QLoRA, runs the engine's tests, and builds and runs the example for Swift against the copy. Tests
# compare tables with docs, so these are copied, too.
#
#   Tests/engine-alone.sh            about eight minutes on two cores
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

mkdir "$copy/qlora"
tar -C "$root" --exclude=.build -cf - Package.swift Sources Tests Examples docs models | tar -C "$copy/qlora" -xf -
cd "$copy/qlora"
rm -r Sources/{LuaBindings,LuaRuntime,qlora-run,CLua,CLuaTrampoline,CEdit}
rm -r Tests/{LuaBindings,LuaRuntime,Recipe,Architecture}Tests

swift build --product QLoRA
swift test --no-parallel

swift build --package-path Examples/FineTune
Examples/FineTune/.build/debug/FineTune | tee "$copy/output"
grep -q "Who lost a kite? Rosa." "$copy/output" || { echo "error: the example did not learn its lessons" >&2; exit 1; }
test -s out/swift/adapter_model.safetensors
lines=$(grep -cvE '^[[:space:]]*(//.*)?$' Examples/FineTune/Sources/FineTune/main.swift)
[ "$lines" -lt 40 ] || { echo "error: the example has $lines lines of program" >&2; exit 1; }
echo "engine-alone: the engine builds, passes its tests and trains without Lua"
