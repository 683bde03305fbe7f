--- The frame of a report: one HTML file that needs nothing else, in light and dark.
local charts = require "qlora.report_charts"
local escape = charts.escape

local page = {}

local style = [[
:root { color-scheme: light dark; --paper:#fff; --ink:#1c1f24; --soft:#5b6472; --rule:#e3e6ea; --panel:#f6f7f9;
  --s1:#2563eb; --s2:#d97706; --s3:#059669; --s4:#db2777; --s5:#7c3aed; --s6:#0891b2; --s7:#92400e; --s8:#64748b }
@media (prefers-color-scheme: dark) { :root { --paper:#15181d; --ink:#e6e8eb; --soft:#9aa4b2; --rule:#2c323a;
  --panel:#1c2127; --s1:#60a5fa; --s2:#fbbf24; --s3:#34d399; --s4:#f472b6; --s5:#a78bfa; --s6:#22d3ee; --s7:#d6a77a;
  --s8:#94a3b8 } }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink); font:15px/1.5 system-ui,sans-serif }
main { max-width:1040px; margin:0 auto; padding:28px 20px 60px }
h1 { font-size:24px; margin:0 } h2 { font-size:16px; margin:32px 0 8px }
h3 { font-size:14px; margin:0 0 4px; font-weight:600 }
.sub, .note, .none { color:var(--soft); margin:2px 0; font-size:13px } .warn { color:var(--s2); margin:2px 0 }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(104px,1fr)); gap:10px; margin:20px 0 }
.tile { background:var(--panel); border-radius:8px; padding:10px }
.tile b { display:block; font-size:18px; font-weight:600; white-space:nowrap }
.tile span { color:var(--soft); font-size:12px }
.pair { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr)); gap:22px }
svg { width:100%; height:auto; display:block } svg text { fill:var(--soft); font:11px system-ui,sans-serif }
.grid { stroke:var(--rule) } .line { fill:none; stroke-width:1.8; stroke-linejoin:round }
.faint { opacity:.3; stroke-width:1 }
.hit { fill:transparent } .hit:hover { fill:var(--soft); fill-opacity:.15 }
.heat rect { fill:var(--s1) } .dot { stroke:none } .bar { fill:var(--s1) }
.s1{stroke:var(--s1)} .s2{stroke:var(--s2)} .s3{stroke:var(--s3)} .s4{stroke:var(--s4)}
.s5{stroke:var(--s5)} .s6{stroke:var(--s6)} .s7{stroke:var(--s7)} .s8{stroke:var(--s8)}
circle.s1, i.s1{fill:var(--s1);background:var(--s1)} circle.s2, i.s2{fill:var(--s2);background:var(--s2)}
i.s3, circle.s3{fill:var(--s3);background:var(--s3)} i.s4, circle.s4{fill:var(--s4);background:var(--s4)}
i.s5, circle.s5{fill:var(--s5);background:var(--s5)} i.s6, circle.s6{fill:var(--s6);background:var(--s6)}
i.s7, circle.s7{fill:var(--s7);background:var(--s7)} i.s8, circle.s8{fill:var(--s8);background:var(--s8)}
.legend { margin:0 0 6px; font-size:13px } .key { margin-right:16px; display:inline-block }
.key i { display:inline-block; width:12px; height:3px;
  border-radius:2px; margin-right:6px; vertical-align:middle }
.scroll { overflow-x:auto } table { border-collapse:collapse; font-size:13px }
td, th { text-align:left; padding:4px 16px 4px 0; border-bottom:1px solid var(--rule); vertical-align:top }
th { color:var(--soft); font-weight:500 } td.number { text-align:right; font-variant-numeric:tabular-nums }
pre { background:var(--panel); border-radius:8px; padding:14px; overflow-x:auto;
  font:12.5px/1.5 ui-monospace,monospace }
.sample { border-left:3px solid var(--rule); padding:2px 0 2px 12px; margin:8px 0; white-space:pre-wrap;
  font-size:13.5px }
.sample em { font-style:normal; color:var(--soft) }
h3.below { margin-top:14px } td { overflow-wrap:anywhere } td:first-child { white-space:nowrap }
.slim { display:none }
@media (max-width: 600px) { .broad { display:none } .slim { display:block } main { padding:20px 12px 40px }
  svg text { font-size:14px } }
]]

--- The whole document around `body`, which is HTML.
function page.document(title, body)
  return ([[<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>%s</title>
<style>
%s</style></head>
<body><main>
%s
</main></body></html>
]]):format(escape(title), style, body)
end

--- Figures with names under them: a list of { name, text }.
function page.tiles(list)
  local parts = {}
  for i, tile in ipairs(list) do
    parts[i] = ('<div class="tile"><b>%s</b><span>%s</span></div>'):format(escape(tile[2]), escape(tile[1]))
  end
  return '<div class="tiles">' .. table.concat(parts) .. "</div>"
end

--- A table: a list of headings and a list of rows; numbers stand right.
function page.table(headings, rows)
  local parts = {}
  if headings then
    for i, heading in ipairs(headings) do parts[i] = "<th>" .. escape(heading) .. "</th>" end
    parts = { "<tr>" .. table.concat(parts) .. "</tr>" }
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i = 1, #(headings or row) do
      local text = row[i] == nil and "" or tostring(row[i])
      local class = i > 1 and text:find "^%-?[%d.]" and headings and ' class="number"' or ""
      cells[i] = ("<td%s>%s</td>"):format(class, escape(text))
    end
    parts[#parts + 1] = "<tr>" .. table.concat(cells) .. "</tr>"
  end
  return '<div class="scroll"><table>' .. table.concat(parts, "\n") .. "</table></div>"
end

--- A chart with its heading.
function page.figure(title, drawing)
  return ("<section><h3>%s</h3>%s</section>"):format(escape(title), drawing)
end

--- Figures side by side where there is room.
function page.pair(figures)
  return '<div class="pair">' .. table.concat(figures, "\n") .. "</div>"
end

--- A chart over the whole width, drawn twice: `draw(width, height)` for a screen, and for one as narrow as a telephone
--- where the first would shrink until its text is too small to read.
function page.wide(draw)
  return ('<div class="broad">%s</div><div class="slim">%s</div>'):format(draw(1000, 300), draw(480, 280))
end

return page
