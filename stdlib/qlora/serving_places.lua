--- Answers that grow together under `qlora-run serve`: a number of places, and a queue for them. Those of one model or
--- adapter share each pass; of several adapters, each has its passes in turn.
local strict = require "qlora.strict"

local Places = {}
Places.__index = Places

local places = {}

--- Places for the answers of a model.
--- @param talker table what talk.open gave
--- @param count integer most answers at once
--- @param most integer most jobs that wait for a place
--- @param told function called with a job at its end, its status and a note
function places.new(talker, count, most, told)
  -- Jobs: waiting in the order of their coming, open in places. A generator for each adapter, "" for none.
  return setmetatable({
    talk = talker, count = count, most = most, told = told, waiting = {}, open = {}, generators = {}, turn = "",
  }, Places)
end

--- Has a job wait for a place: { request =, adapter =, ids =, sampling =, begin =, finish =, fail = }.
function Places:add(job) self.waiting[#self.waiting + 1] = job end

--- Whether no more may wait.
function Places:is_full() return #self.waiting >= self.most end

--- Whether nobody waits for a text.
function Places:is_idle() return #self.waiting + #self.open == 0 end

--- Puts an adapter on and gives the texts that grow under it.
function Places:generator(adapter)
  self.talk:use(adapter)
  local name = adapter or ""
  self.generators[name] = self.generators[name] or self.talk.model:generator()
  return self.generators[name]
end

--- Ends a job: with the status of its answer, and a note for the log.
function Places:done(job, raised)
  local sequence = job.sequence
  if raised ~= nil then return self.told(job, job.fail(raised), tostring(raised)) end
  local gone = job.request.gone
  job.finish(sequence)
  self.told(job, 200, ("%d + %d tokens%s"):format(sequence.read, sequence.written, gone and ", client gone" or ""))
end

--- Gives free places to those who wait longest.
function Places:admit()
  while #self.open < self.count and self.waiting[1] do
    local job = table.remove(self.waiting, 1)
    if not job.request.gone then
      local ok, sequence = pcall(function() return self:generator(job.adapter):add(job.ids, job.sampling) end)
      if ok then
        job.sequence = sequence
        job.begin()
        self.open[#self.open + 1] = job
      else
        if type(sequence) == "table" and sequence.exit_code then error(sequence, 0) end
        self:done(job, sequence)
      end
    end
  end
end

--- The adapter whose turn it is: the next by name of those with open answers.
function Places:next_adapter()
  local names = {}
  for _, job in ipairs(self.open) do names[job.adapter or ""] = true end
  local sorted = strict.sorted_keys(names)
  local chosen = sorted[1]
  for i = #sorted, 1, -1 do
    if sorted[i] > self.turn then chosen = sorted[i] end
  end
  self.turn = chosen
  return chosen ~= "" and chosen or nil
end

--- One pass: a token for each answer of one adapter. Places of clients that went away are free before it.
function Places:step()
  for _, job in ipairs(self.open) do
    if job.request.gone then job.sequence:stop() end
  end
  self:settle()
  self:admit()
  if not self.open[1] then return end
  local ok, raised = pcall(function() self:generator(self:next_adapter()):step() end)
  if not ok and type(raised) == "table" and raised.exit_code then error(raised, 0) end
  self:settle()
end

--- Answers those who are at their end.
function Places:settle()
  local open = {}
  for _, job in ipairs(self.open) do
    local reason = job.sequence.reason
    if not reason then
      open[#open + 1] = job
    else
      self:done(job, reason == "failed" and job.sequence.problem or nil)
    end
  end
  self.open = open
end

--- Ends all answers with an error, those that wait too: none is whole.
function Places:finish(raised)
  for _, job in ipairs(self.open) do job.sequence:stop() end
  for _, jobs in ipairs { self.open, self.waiting } do
    for _, job in ipairs(jobs) do self:done(job, raised) end
  end
  self.open, self.waiting = {}, {}
end

return places
