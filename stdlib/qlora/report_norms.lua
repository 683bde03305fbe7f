--- Adapter norms of a run as heat maps.
local charts = require "qlora.report_charts"
local page = require "qlora.report_page"

--- "model.layers.3.self_attn.q_proj" -> 3, "q_proj"; modules outside the layers count as layer "rest".
local function place(name)
  return tonumber(name:match("%.layers%.(%d+)%.")) or "rest", name:match("[^.]+$")
end

-- The order of the forward pass.
local role_order = {
  q_proj = 1, k_proj = 2, v_proj = 3, o_proj = 4, gate_proj = 5, up_proj = 6, down_proj = 7,
  qkv_proj = 1, gate_up_proj = 5,
  in_proj_qkv = 1, in_proj_z = 2, in_proj_b = 3, in_proj_a = 3, out_proj = 4,
  query_key_value = 1, dense = 4, dense_h_to_4h = 5, dense_4h_to_h = 7,
}

--- Layers by number and "rest" last; roles in the order of the forward pass.
local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  local function rank(key) return type(key) == "number" and key or role_order[key] or math.huge end
  table.sort(list, function(a, b)
    if rank(a) ~= rank(b) then return rank(a) < rank(b) end
    return tostring(a) < tostring(b)
  end)
  return list
end

--- Two grids: layers by time (root of the sum of squares over a layer), and layers by role at the end.
return function(record)
  local layers, roles, columns, over_time, at_end = {}, {}, {}, {}, {}
  for c, entry in ipairs(record.norms) do
    columns[c] = entry.step
    for name, norm in pairs(entry.adapter_norms) do
      local layer, role = place(name)
      layers[layer], roles[role] = true, true
      over_time[layer] = over_time[layer] or {}
      over_time[layer][c] = (over_time[layer][c] or 0.0) + norm * norm
      if c == #record.norms then
        at_end[layer] = at_end[layer] or {}
        at_end[layer][role] = norm
      end
    end
  end
  local layer_list, role_list = sorted(layers), sorted(roles)
  local names, time_grid, role_grid = {}, {}, {}
  for r, layer in ipairs(layer_list) do
    names[r] = type(layer) == "number" and "layer " .. layer or "other"
    time_grid[r], role_grid[r] = {}, {}
    for c = 1, #columns do time_grid[r][c] = over_time[layer][c] and math.sqrt(over_time[layer][c]) end
    for c, role in ipairs(role_list) do role_grid[r][c] = (at_end[layer] or {})[role] end
  end
  local short = {}
  for c, role in ipairs(role_list) do short[c] = role:gsub("_proj$", "") end
  local function figure(title, ...)
    local drawing, high = charts.heatmap(...)
    return page.figure(title, drawing .. ('<p class="note">strongest colour: %.3g</p>'):format(high))
  end
  return page.pair {
    figure("By step", time_grid, names, columns), figure("By module, at the end", role_grid, names, short),
  }
end
