--- Counter-based random numbers for data order: a permutation is a function of (seed, epoch) alone, so a resumed run
--- needs no state.
local random = {}

--- SplitMix64's finaliser: a well-mixed 64-bit value of a 64-bit key (integers wrap in Lua).
local function mix(z)
  z = (z ~ (z >> 30)) * 0xbf58476d1ce4e5b9
  z = (z ~ (z >> 27)) * 0x94d049bb133111eb
  return z ~ (z >> 31)
end
random.mix = mix

--- A generator keyed by integers: `next(n)` is uniform in 1..n.
function random.stream(...)
  local key = 0x9e3779b97f4a7c15
  for _, part in ipairs { ... } do key = mix(key + part * 0x9e3779b97f4a7c15 + 1) end
  local counter = 0
  return function(n)
    counter = counter + 1
    local value = mix(key + counter * 0x9e3779b97f4a7c15)
    -- The top 53 bits; the bias against a range of at most 2^32 is below 2^-21.
    return (value >> 11) % n + 1
  end
end

--- A random permutation of 1..n (Fisher-Yates).
function random.permutation(n, ...)
  local next_index, list = random.stream(...), {}
  for i = 1, n do list[i] = i end
  for i = n, 2, -1 do
    local j = next_index(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

return random
