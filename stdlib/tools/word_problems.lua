--- Writes data/word_problems.jsonl: word problems of two steps with worked answers, as Alpaca records. The file is a
--- function of this program, so it has the licence of the package: `make data`.
local people = { "Ben", "Mia", "Omar", "Rosa", "Felix", "Nora", "Ivan", "Clara", "Hugo", "Zoe", "Peter", "Ruth" }
local things = {
  { "boxes", "pencils" }, { "bags", "apples" }, { "trays", "muffins" }, { "shelves", "books" }, { "packs", "stickers" },
  { "baskets", "eggs" }, { "jars", "cookies" }, { "rows", "chairs" },
}

local draw = require "qlora.data.random".stream(2026)
local function between(low, high) return low + draw(high - low + 1) - 1 end
local function pick(list) return list[draw(#list)] end

--- Each kind of problem gives a question, the lines of its answer and the result.
local kinds = {
  function(name, box, thing)
    local n, each = between(2, 9), between(3, 12)
    local away = between(1, n * each - 1)
    return ("%s has %d %s with %d %s each and gives %d away. How many %s are left?"):format(name, n, box, each, thing,
      away, thing), ("%d x %d = %d %s.\n%d - %d = %d."):format(n, each, n * each, thing, n * each, away,
      n * each - away), n * each - away
  end,
  function(name, box, thing)
    local n, each, more = between(2, 9), between(3, 12), between(2, 20)
    return ("%s has %d %s with %d %s each and finds %d more. How many %s are there now?"):format(name, n, box, each,
      thing, more, thing), ("%d x %d = %d %s.\n%d + %d = %d."):format(n, each, n * each, thing, n * each, more,
      n * each + more), n * each + more
  end,
  function(name, box, thing)
    local n, each, lost = between(2, 9), between(2, 10), between(1, 9)
    return ("%s had %d %s, lost %d and puts the others into %d %s. How many %s are in each of the %s?"):format(name,
      n * each + lost, thing, lost, n, box, thing, box), ("%d - %d = %d %s.\n%d / %d = %d."):format(n * each + lost,
      lost, n * each, thing, n * each, n, each), each
  end,
  function(name, _, thing)
    local price, n = between(2, 9), between(2, 9)
    local paid = price * n + between(1, 20)
    return ("%s buys %d %s for %d dollars each and pays with %d dollars. How many dollars come back?"):format(name, n,
      thing, price, paid), ("%d x %d = %d dollars.\n%d - %d = %d."):format(n, price, n * price, paid, n * price,
      paid - n * price), paid - n * price
  end,
}

local path = arg and arg[1] or "data/word_problems.jsonl"
local file, problem = io.open(path, "w")
if not file then error(problem, 0) end
local seen, count = {}, 0
while count < 1500 do
  local thing = pick(things)
  local question, steps, result = pick(kinds)(pick(people), thing[1], thing[2])
  if not seen[question] then
    seen[question], count = true, count + 1
    file:write(('{"instruction": "%s", "input": "", "output": "%s\\nThe answer is %d."}\n'):format(question,
      steps:gsub("\n", "\\n"), result))
  end
end
file:close()
