--- The options of qlora.data.load and the fields of a span.
local strict = require "qlora.strict"

local options = {}

options.load = strict.declare("qlora.data.load", {
  format = { "string|callable", "name of a format, or a function record -> list of spans { text =, train = }; default "
    .. "the one that the fields of all records fit" },
  map = { "table|callable", "makes records for the format: { prompt = \"question\" } renames fields; a function "
    .. "record -> record may do anything, and gives nil to leave one out" },
  tokenizer = { "Tokenizer", "the model's tokenizer; only a plan does without" },
  max_length = { "count", "longer samples are cut, or left out (too_long); the window of format text, 1024 there when "
    .. "left out" },
  stride = { "count", "tokens from the start of a window of format text to that of the next; what it repeats is "
    .. "context, not trained again; default the window" },
  source_max_length = { "count", "longer prompts are cut, for formats with source and target" },
  target_max_length = { "count", "longer answers are cut, for formats with source and target" },
  train_on_source = { "boolean", "train the prompts too", default = false },
  too_long = { "string", "what happens to samples above a length: cut them, or leave them out",
    choices = { "cut", "leave_out" }, default = "cut" },
  skip_invalid = { "boolean", "leave wrong records out and count them instead of ending with the first",
    default = false },
  ignore = { "table", "names of fields, of records and messages, that are left unread on purpose" },
  limit = { "count", "most records; default all" },
  template = { "string|callable|table", "chat template by name, a file with Jinja source, a function, or what "
    .. "qlora.chat.for_tokenizer gives; default the tokenizer's own" },
  train = { "string", "which assistant messages of a chat are trained", choices = { "all", "last" } },
  default_system = { "string", "system message of chats that have none; default the template's" },
  template_options = { "table", "what the model's own template is given beside the messages, such as "
    .. "{ enable_thinking = false }" },
  roles = { "table", "names of roles that the model's own template does not name and gets all the same" },
  literal = { "boolean", "special tokens that a record spells stay text; those of a chat template do not",
    default = false },
  eos = { "boolean", "end trained samples with EOS; default unless the template ends turns itself" },
  bos = { "boolean", "begin samples with BOS; default as the tokenizer does, but chats under the model's own "
    .. "template as that writes them" },
  quiet = { "boolean", "do not print the counts", default = false },
})

options.span = strict.declare("a span of qlora.data.load", {
  text = { "string", "the text", required = true },
  train = { "boolean", "whether its tokens are targets", default = false },
  source = { "boolean", "whether source_max_length cuts it", default = false },
  literal = { "boolean", "special tokens that it spells stay text", default = false },
  separate = { "boolean", "tokenize it as the start of a text", default = false },
})

return options
