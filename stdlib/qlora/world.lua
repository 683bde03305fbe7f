--- A little world in template English: the text the tiny model that ships was pretrained on, and the material of
--- quickstart.lua. Everything is a function of a seed, so the corpus need not be stored and any two machines get the
--- same one.
local random = require "qlora.data.random"

local world = {}

local function words(text)
  local list = {}
  for word in text:gmatch("[^,\n]+") do list[#list + 1] = word:match("^%s*(.-)%s*$") end
  return list
end

-- Names with the pronouns that go with them.
local people = {}
for _, name in ipairs(words [[Mia, Anna, Lily, Rosa, Emma, Clara, Nora, Ruth, Ida, Sara, Zoe, Hanna, Alice, Maria,
  Julia]]) do
  people[#people + 1] = { name = name, they = "she", them = "her", their = "her" }
end
for _, name in ipairs(words [[Tom, Ben, Paul, Max, Leo, Sam, Jack, Omar, Felix, Hugo, Ivan, David, Peter, Oscar,
  Karl]]) do
  people[#people + 1] = { name = name, they = "he", them = "him", their = "his" }
end

local jobs = words [[baker, farmer, fisher, teacher, doctor, painter, singer, sailor, tailor, miller, gardener,
  smith, cook, hunter, writer, carpenter, shepherd, weaver, captain, clerk]]
local makes = { -- what a job does, for the facts
  baker = "makes bread", farmer = "grows corn", fisher = "catches fish", teacher = "teaches children",
  doctor = "helps sick people", painter = "paints pictures", singer = "sings songs", sailor = "sails ships",
  tailor = "sews clothes", miller = "grinds grain", gardener = "grows flowers", smith = "works with iron",
  cook = "makes soup", hunter = "follows tracks", writer = "writes stories", carpenter = "builds houses",
  shepherd = "watches sheep", weaver = "makes cloth", captain = "leads a ship", clerk = "counts money",
}
local places = words [[market, forest, river, school, harbour, garden, castle, village, mill, bridge, beach,
  library, kitchen, field, mountain, station, museum, lake, church, park, barn, cave, island, tower]]
local things = words [[apple, book, key, lamp, ring, hat, boat, drum, map, rope, coin, letter, bell, basket,
  blanket, candle, cup, flute, stone, shell, knife, kite, mirror, pear, cake, ball, bottle, brush, clock, feather]]
local qualities = words [[red, blue, green, yellow, white, black, brown, golden, silver, small, big, old, new,
  round, heavy, broken, beautiful, strange, shiny, wooden]]
local animals = words [[dog, cat, horse, cow, goat, duck, fox, owl, mouse, rabbit, bear, hen]]
local deeds = words [[found, bought, lost, sold, hid, drew, washed, carried, borrowed, repaired, opened, dropped,
  cleaned, took]]
local base_form = {
  found = "find", bought = "buy", lost = "lose", sold = "sell", hid = "hide", drew = "draw", washed = "wash",
  carried = "carry", borrowed = "borrow", repaired = "repair", opened = "open", dropped = "drop", cleaned = "clean",
  took = "take",
}
local moves = words [[walked, ran, went, hurried, travelled, came]]
local times = words [[in the morning, at noon, in the evening, at night, on Monday, on Tuesday, on Sunday,
  in spring, in summer, in autumn, in winter, early in the day]]
local weathers = words [[sunny, cold, warm, windy, rainy, grey, bright, quiet]]
local feelings = words [[happy, sad, tired, proud, hungry, surprised, angry, calm, afraid, thankful]]
local numbers = words [[one, two, three, four, five, six, seven, eight, nine, ten]]

local function article(phrase) return (phrase:match("^[aeiou]") and "an " or "a ") .. phrase end
local function capital(text) return (text:gsub("^%l", string.upper)) end

--- A scene: who did what where, chosen by `pick`.
local function new_scene(pick)
  local person = pick(people)
  local thing = pick(things)
  local scene = {
    person = person, who = person.name, thing = thing, job = pick(jobs), where = pick(places), when = pick(times),
    deed = pick(deeds), move = pick(moves), quality = pick(qualities), animal = pick(animals),
    feeling = pick(feelings), weather = pick(weathers),
  }
  scene.object = article(scene.quality .. " " .. thing)
  scene.did = scene.deed .. " " .. scene.object
  repeat scene.friend = pick(people) until scene.friend ~= person
  return scene
end

local function fill(template, scene)
  return (template:gsub("{([%w_.]+)}", function(path)
    local value = scene
    for key in path:gmatch("[^.]+") do value = value[key] end
    return value
  end))
end

-- One sentence that holds the whole scene: what quickstart.lua asks to be summarised.
local openings = {
  "{who} the {job} {move} to the {where} {when} and {did} there.",
  "{when^}, {who} the {job} {move} to the {where} and {did}.",
  "{who} {move} to the {where} {when}, where {person.they} {did}.",
  "At the {where}, {who} the {job} {did} {when}.",
  "{who} the {job} was at the {where} {when} and {did}.",
}

local middles = {
  "The day was {weather}.", "It was {weather} {when}.", "{person.they^} was {feeling}.",
  "The {thing} was {quality}.", "{person.they^} looked at the {quality} {thing} for a long time.",
  "{article_animal^} sat near the {where} and watched {person.them}.",
  "{friend.name} saw {person.them} and came along.",
  "{person.they^} put the {thing} into {person.their} bag.", "Nobody else was at the {where}.",
  "\"Good morning, {who},\" said {friend.name}. \"What do you have there?\"", "\"I have {object},\" said {who}.",
  "{friend.name} asked {who} about the {thing}.", "Then {friend.name} and {who} talked about the {where}.",
}

local endings = {
  "In the end {who} was {feeling}.", "Then {who} went home.", "{who} gave the {thing} to {friend.name}.",
  "{friend.name} was {feeling}, and so was {who}.", "They both laughed and went home.",
  "That was a good day for the {job}.",
  "The {animal} followed {person.them} home.",
}

local questions = {
  { "Who {deed} the {thing}?", "{who} {deed} the {thing}.", "{who}." },
  { "Where did {who} go?", "{who} went to the {where}.", "To the {where}." },
  { "Where was {who}?", "{who} was at the {where}.", "At the {where}." },
  { "What did {who} {base}?", "{who} {did}.", "{object^}." },
  { "What was at the {where}?", "There was {object} at the {where}.", "{object^}." },
  { "Who was at the {where}?", "{who} was at the {where}.", "{who}." },
  { "What was the {thing} like?", "The {thing} was {quality}.", "{quality^}." },
  { "What did {who} do?", "{who} {did}.", "{who} {did} at the {where}." },
}

local function write(template, scene)
  scene.article_animal, scene.base = article(scene.animal), base_form[scene.deed]
  local text = template:gsub("{([%w_.]+)%^}", function(path) return capital(fill("{" .. path .. "}", scene)) end)
  return capital(fill(text, scene))
end

local function picker(...)
  local next_index = random.stream(...)
  return function(list) return list[next_index(#list)] end, next_index
end

local function story(pick, next_index)
  local scene = new_scene(pick)
  local parts = {}
  if next_index(6) == 1 then parts[1] = ("THE %s AND THE %s\n"):format(scene.job:upper(), scene.thing:upper()) end
  local body = { write(pick(openings), scene) }
  for _ = 1, next_index(3) - 1 do body[#body + 1] = write(pick(middles), scene) end
  if next_index(2) == 1 then body[#body + 1] = write(pick(endings), scene) end
  parts[#parts + 1] = table.concat(body, " ")
  for _ = 1, next_index(4) do
    local q = pick(questions)
    parts[#parts + 1] = ("\nQuestion: %s\nAnswer: %s"):format(write(q[1], scene), write(q[next_index(2) + 1], scene))
  end
  return table.concat(parts)
end

--- A sentence said twice: the plainest lesson in looking back, which questions and summaries build on. (Lists of
--- random words teach copying too, but a model of this size was slower to learn from them than from sentences.)
local function echo(pick)
  local sentence = write(pick(openings), new_scene(pick))
  return ("%s\n%s %s"):format(sentence, pick { "Again:", "Once more:", "Repeat:" }, sentence)
end

local function fact(pick, next_index)
  local kind, job, thing = next_index(6), pick(jobs), pick(things)
  if kind == 1 then
    local someone, does = capital(article(job)), makes[job]
    return ("%s %s. Who %s? %s."):format(someone, does, does, someone)
  end
  if kind == 2 then
    local a, b = next_index(5), next_index(5)
    local plural = pick { "apples", "coins", "shells", "stones", "cups" }
    local first, second, sum = capital(numbers[a]), numbers[b], numbers[a + b]
    return ("%s %s and %s %s are %s %s."):format(first, plural, second, plural, sum, plural)
  end
  if kind == 3 then
    local letters = {}
    for letter in job:upper():gmatch(".") do letters[#letters + 1] = letter end
    return ("The word %s is written %s."):format(job, table.concat(letters, ", "))
  end
  if kind == 4 then
    local n = next_index(25)
    return ("The letter %s comes after the letter %s."):format(string.char(65 + n), string.char(64 + n))
  end
  if kind == 5 then return ("%s | %s | %s"):format(pick(qualities), thing, pick(places)) end
  return ("The %s is a thing. The %s is a place. The %s is an animal."):format(thing, pick(places), pick(animals))
end

--- `count` texts of the corpus: stories with questions and answers, sentences said twice, lines of facts.
--- @param count integer how many
--- @param seed? integer another seed gives others; 0 when left out
--- @return string[] the texts
function world.texts(count, seed)
  local pick, next_index = picker(seed or 0, 1)
  local list = {}
  for i = 1, count do
    local kind = next_index(8)
    if kind <= 3 then
      list[i] = echo(pick)
    elseif kind == 4 then
      list[i] = fact(pick, next_index) .. "\n" .. fact(pick, next_index)
    else
      list[i] = story(pick, next_index)
    end
  end
  return list
end

--- `count` scenes { sentence =, who =, did =, where = } that the corpus's seeds do not produce in this order.
--- @param count integer how many
--- @param seed? integer another seed gives others; 0 when left out
--- @return table[] the scenes
function world.scenes(count, seed)
  local pick = picker(seed or 0, 2)
  local list = {}
  for i = 1, count do
    local scene = new_scene(pick)
    list[i] = { sentence = write(pick(openings), scene), who = scene.who, did = scene.did, where = scene.where }
  end
  return list
end

--- `count` records { input =, output = } of a skill the tiny model lacks: summing up a sentence as in quickstart.lua.
--- @param count integer how many
--- @param seed? integer another seed gives others; 0 when left out
--- @return table[] the records
function world.records(count, seed)
  local list = {}
  for i, scene in ipairs(world.scenes(count, seed)) do
    list[i] = {
      input = scene.sentence .. "\nSummary:",
      output = (" Who: %s | What: %s | Where: %s"):format(scene.who, scene.did, scene.where),
    }
  end
  return list
end

return world
