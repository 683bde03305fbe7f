--- prints the completion of a shell, or the manual page: bash, zsh, fish or man
---
--- Made from the declarations of flags and commands. `make install` puts all of them where the shells look.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local program = require "qlora.program_flags"

local function commands()
  local list = {}
  for i, name in ipairs(command_line.names()) do list[i] = command_line.command(name) end
  return list
end

--- The long flags of the program, or of a run only.
local function program_flags(runs_only)
  local list = {}
  for _, flag in ipairs(program.flags) do
    for _, name in ipairs(flag.names) do
      local is_run = flag.group == "run" or flag.group == "sandbox"
      if name:find "^%-%-?%a" and (is_run or not runs_only) then
        list[#list + 1] = { name, flag.value, flag.help }
      end
    end
  end
  return list
end

local function words(list)
  local names = {}
  for i, entry in ipairs(list) do names[i] = entry[1] or entry.name end
  return table.concat(names, " ")
end

local shells = {}

--- The completion of bash.
function shells.bash()
  local cases = {}
  for _, command in ipairs(commands()) do
    cases[#cases + 1] = ("    %s) flags=\"%s\" ;;"):format(command.name, words(command.flags))
  end
  return ([=[
# bash completion of qlora-run; written by qlora-run completion bash
_qlora_run() {
  local word=${COMP_WORDS[COMP_CWORD]} command="" flags="" each
  for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $each in -*) ;; *) command=$each; break ;; esac
  done
  case $command in
@cases
    "") flags="@flags" ;;
    *) flags="@run" ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags @run" -- "$word"))
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "@commands" -- "$word") $(compgen -f -- "$word"))
  elif [[ $command == help ]]; then
    COMPREPLY=($(compgen -W "@commands" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _qlora_run qlora-run
]=]):gsub("@(%a+)", { cases = table.concat(cases, "\n"), flags = words(program_flags()),
    run = words(program_flags(true)), commands = words(commands()) })
end

local zsh_signs = { ["'"] = "’", ["["] = "(", ["]"] = ")", [":"] = " " }
local function zsh_text(text) return (text:gsub("['%[%]:]", zsh_signs)) end

local function zsh_flags(list, indent)
  local lines = {}
  for i, flag in ipairs(list) do
    lines[i] = ("%s'*%s[%s]%s'"):format(indent, flag[1], zsh_text(flag[3]),
      flag[2] and ":" .. zsh_text(flag[2]) .. ":_files" or "")
  end
  return table.concat(lines, " \\\n")
end

--- The completion of zsh.
function shells.zsh()
  local names, cases = {}, {}
  for i, command in ipairs(commands()) do
    names[i] = ("    '%s:%s'"):format(command.name, zsh_text(command.summary))
    local run = program_flags(true)
    local flags = table.move(run, 1, #run, #command.flags + 1, { table.unpack(command.flags) })
    cases[i] = ("    %s)\n      _arguments -s \\\n%s \\\n        '*:file:_files' ;;"):format(command.name,
      zsh_flags(flags, "        "))
  end
  return ([=[
#compdef qlora-run
# zsh completion of qlora-run; written by qlora-run completion zsh
_qlora_run() {
  local -a commands
  commands=(
@commands
  )
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    _describe 'command' commands
    _files
    return
  fi
  case $words[2] in
@cases
    *)
      _arguments -s \
@flags \
        '*:file:_files' ;;
  esac
}
_qlora_run "$@"
]=]):gsub("@(%a+)", { commands = table.concat(names, "\n"), cases = table.concat(cases, "\n"),
    flags = zsh_flags(program_flags(), "        ") })
end

local function fish_flag(flag, condition)
  local long, short = flag[1]:match "^%-%-(.+)$", flag[1]:match "^%-(%a)$"
  return ("complete -c qlora-run%s %s %s%s -d '%s'"):format(condition, long and "-l" or "-s", long or short,
    flag[2] and " -r" or "", flag[3]:gsub("'", "’"))
end

--- The completion of fish.
function shells.fish()
  local lines = { "# fish completion of qlora-run; written by qlora-run completion fish" }
  for _, command in ipairs(commands()) do
    lines[#lines + 1] = ("complete -c qlora-run -n __fish_use_subcommand -a %s -d '%s'"):format(command.name,
      command.summary:gsub("'", "’"))
    for _, flag in ipairs(command.flags) do
      lines[#lines + 1] = fish_flag(flag, (" -n '__fish_seen_subcommand_from %s'"):format(command.name))
    end
  end
  for _, flag in ipairs(program_flags()) do lines[#lines + 1] = fish_flag(flag, "") end
  return table.concat(lines, "\n") .. "\n"
end

local function roff(text) return (text:gsub("\\", "\\\\"):gsub("%-", "\\-"):gsub("\n%.", "\n\\&.")) end

--- The manual page.
function shells.man()
  local lines = { (".TH QLORA-RUN 1 \"\" \"qlora-run %s\""):format(native.version), ".SH NAME",
    "qlora\\-run \\- 4\\-bit fine\\-tuning of language models with recipes in Lua", ".SH SYNOPSIS",
    ".B qlora\\-run\n[flags] [recipe [flags and recipe arguments]]\n.br\n.B qlora\\-run\ncommand [flags and arguments]",
    ".SH FLAGS" }
  for _, flag in ipairs(program.flags) do
    lines[#lines + 1] = (".TP\n.B %s\n%s"):format(roff(table.concat(flag.names, ", ")
      .. (flag.value and " " .. flag.value or "")), roff(flag.help))
  end
  lines[#lines + 1] = ".SH COMMANDS"
  for _, command in ipairs(commands()) do
    lines[#lines + 1] = (".TP\n.B %s\n%s"):format(roff(command.name .. " " .. (command.usage or "")),
      roff((command.about:gsub("\n\n", "\n"))))
    for _, flag in ipairs(command.flags) do
      lines[#lines + 1] = (".br\n.B %s\n%s"):format(roff(flag[1] .. (flag[2] and " " .. flag[2] or "")), roff(flag[3]))
    end
  end
  lines[#lines + 1] = ".SH EXIT STATUS\n0: done. 1: an error in a recipe. 2: a mistake on the command line. "
    .. "3: a plan does not fit \\-\\-memory. 130, 143, 129, 138: ended by Ctrl\\-C, SIGTERM, SIGHUP, SIGUSR1."
  return table.concat(lines, "\n") .. "\n"
end

return {
  usage = "bash | zsh | fish | man", least = 1, most = 1,
  run = function(_, arguments)
    local make = shells[arguments[1]]
    if not make then command_line.fail("completion: it makes bash, zsh, fish and man, not '%s'", arguments[1]) end
    io.write((make()))
  end,
}
