--- Decimal digits beyond ASCII, which Python's int() and float() read as numbers.

-- The zeros of the category Nd in Unicode 14.0.0; the nine digits that follow each are 1 to 9.
local zeros = {}
for code in ([[
  660 6F0 7C0 966 9E6 A66 AE6 B66 BE6 C66 CE6 D66 DE6 E50 ED0 F20 1040 1090 17E0 1810 1946 19D0 1A80 1A90 1B50
  1BB0 1C40 1C50 A620 A8D0 A900 A9D0 A9F0 AA50 ABF0 FF10 104A0 10D30 11066 110F0 11136 111D0 112F0 11450 114D0
  11650 116C0 11730 118E0 11950 11C50 11D50 11DA0 16A60 16AC0 16B50 1D7CE 1D7D8 1D7E2 1D7EC 1D7F6 1E140 1E2F0
  1E950 1FBF0
]]):gmatch "%x+" do zeros[tonumber(code, 16)] = true end

--- A text with ASCII digits in the place of those of other scripts.
return function(s)
  return (s:gsub("[\194-\244][\128-\191]+", function(c)
    local code = utf8.len(c) == 1 and utf8.codepoint(c)
    for digit = 0, code and 9 or -1 do if zeros[code - digit] then return tostring(digit) end end
  end))
end
