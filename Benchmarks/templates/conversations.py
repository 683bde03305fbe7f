"""The conversations that templates are compared on."""

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

SYSTEM = {"role": "system", "content": "You are Nova.\nBe brief."}
HI = {"role": "user", "content": " Hi there! "}
HELLO = {"role": "assistant", "content": "Hello, what's up?\n"}
ASK = {"role": "user", "content": "Wie ist das Wetter in Zürich? 天気 \"q\" <b>"}
FINE = {"role": "assistant", "content": "Sunny & warm."}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Says the weather of a \"city\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, e.g. Zürich"},
                "days": {"type": "integer", "enum": [1, 3, 7], "default": 1},
                "units": {"type": ["string", "null"]},
                "more": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "boolean"}}}},
            },
            "required": ["city"],
        },
        "return": {"type": "string", "description": "The weather"},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time.", "parameters": {
    "type": "object", "properties": {}, "required": []}}}


def call(arguments, number="call00001"):
    return {"role": "assistant", "content": "", "tool_calls": [
        {"id": number, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]}


RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"sky\": \"clear\", \"t\": 21.5}"}
TWO = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bern", "days": 3}}},
    {"id": "call00002", "type": "function", "function": {"name": "clock", "arguments": {}}}]}
SECOND = {"role": "tool", "tool_call_id": "call00002", "name": "clock", "content": "12:30"}
THOUGHT = {"role": "assistant", "content": "Sunny.", "reasoning_content": "The user asks\nabout weather."}
INLINE = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nSunny."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}

CONVERSATIONS = [
    {"about": "one question", "messages": [HI], "add_generation_prompt": True},
    {"about": "one turn", "messages": [HI, HELLO]},
    {"about": "a system message", "messages": [SYSTEM, HI, HELLO, ASK], "add_generation_prompt": True},
    {"about": "several turns", "messages": [SYSTEM, HI, HELLO, ASK, FINE]},
    {"about": "tools", "messages": [SYSTEM, ASK], "tools": [WEATHER, CLOCK], "add_generation_prompt": True},
    {"about": "a tool call", "messages": [ASK, call({"city": "Zürich", "days": 1, "f": 1.5, "n": None, "l": [True]}), RESULT, FINE],
     "tools": [WEATHER]},
    {"about": "a tool call whose arguments are a text", "messages": [SYSTEM, ASK, call("{\"city\": \"Bern\"}"), RESULT],
     "tools": [WEATHER], "add_generation_prompt": True},
    {"about": "two tool calls", "messages": [SYSTEM, ASK, TWO, RESULT, SECOND, FINE, HI], "tools": [WEATHER, CLOCK],
     "add_generation_prompt": True},
    {"about": "reasoning", "messages": [ASK, THOUGHT, HI, THOUGHT]},
    {"about": "reasoning in the text", "messages": [ASK, INLINE, HI, INLINE, ASK], "add_generation_prompt": True,
     "options": {"enable_thinking": False}},
    {"about": "parts", "messages": [SYSTEM, PARTS], "add_generation_prompt": True, "options": {"enable_thinking": True}},
    {"about": "documents", "messages": [HI], "documents": [{"title": "A", "text": "Alpha."}, {"title": "B", "text": "Béta."}],
     "add_generation_prompt": True},
    {"about": "a developer", "messages": [{"role": "developer", "content": "Be kind."}, HI, HELLO]},
]
