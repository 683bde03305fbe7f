"""Writes generation.lua: what transformers 5.23 marks as the assistant's (`return_assistant_tokens_mask`) under templates
with generation blocks, in [[…]]. `after` and `several` are built as TRL 1.16's phi3_training and diffusion_gemma_training."""
from transformers.utils.chat_template_utils import render_jinja_template

HEAD = "{% for m in messages %}<|{{ m.role }}|>\n"
G, E = "{% generation %}", "{% endgeneration %}"
T = {
    "after": HEAD + "{% if m.role == 'assistant' %}" + G + "{{ m.content + '<|end|>\n' }}" + E
             + "{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}"
             "{% if messages[-1].role == 'assistant' %}" + G + "</s>" + E + "{% endif %}",
    "several": HEAD + "{% if m.role == 'assistant' %}{% if m.reasoning_content %}" + G
               + "<think>{{ m.reasoning_content }}</think>" + E + "{% endif %}{% for c in m.tool_calls or [] %}" + G
               + "<call>{{ c.name }}</call>" + E + "{% endfor %}{% set said %}{{ m.content }}{% endset %}" + G
               + "{{ said }}" + E + "{{ '<x>' }}" + G + "<|end|>\n" + E
               + "{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}",
    "macro": "{% macro say(m) %}" + G + "{{ m.content }}" + E + "<|end|>{% endmacro %}" + HEAD
             + "{% if m.role == 'assistant' %}{{ say(m) }}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
    "set": HEAD + "{% if m.role == 'assistant' %}{% set x %}" + G + "{{ m.content }}" + E
           + "{% endset %}{{ x }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}",
    "call": "{% macro turn() %}{{ caller() }}<|end|>{% endmacro %}" + HEAD + "{% if m.role == 'assistant' %}"
            "{% call turn() %}" + G + "{{ m.content }}" + E + "{% endcall %}{% else %}{{ m.content }}<|end|>{% endif %}"
            "{% endfor %}",
    "tight": HEAD + "{% if m.role == 'assistant' %}{%- generation-%}{{ m.content }}{%endgeneration%}<|end|>"
             "{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "last": HEAD + "{% if loop.last and m.role == 'assistant' %}" + G + "{{ m.content }}" + E
            + "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}",
    "merged": HEAD + "{{ m.content }}{% if m.role == 'tool' %}" + G + "<more>" + E + "{% endif %}"
              "{% if m.role == 'assistant' %}" + G + "<|end|>" + E + "{% endif %}{% endfor %}",
    "whole": G + HEAD + "{{ m.content }}<|end|>{% endfor %}" + E,
    "by_number": "{% for i in range(messages | length) %}{% set m = messages[i] %}<|{{ m.role }}|>"
                 "{% if m.role == 'assistant' %}" + G + "{{ m.content }}" + E + "{% else %}{{ m.content }}{% endif %}"
                 "<|end|>{% endfor %}",
}
U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}
M = {
    "one": [U, A],
    "two": [{"role": "system", "content": "Be."}, U, A, {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Grüße 🌍"}],
}
RICH = [U, {"role": "assistant", "content": "Yo", "reasoning_content": "Hm.",
            "tool_calls": [{"name": "f"}, {"name": "g"}]}, {"role": "user", "content": "And?"}, A]
TOOL = [U, A, {"role": "tool", "content": "7"}, A]


def quote(value):
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list):
        return "{ " + ", ".join(map(quote, value)) + " }"
    return "{ " + ", ".join("%s = %s" % (key, quote(of)) for key, of in value.items()) + " }"


with open(__file__.rsplit("/", 1)[0] + "/generation.lua", "w") as out:
    out.write("-- Written by make_generation.py; do not edit.\nreturn {\n")
    for name, source in T.items():
        out.write("  { name = %s, source = %s, cases = {\n" % (quote(name), quote(source)))
        for messages in [*M.values()] + ([RICH] if name == "several" else [TOOL] if name == "merged" else []):
            texts, ranges = render_jinja_template([messages], chat_template=source, return_assistant_tokens_mask=True)
            mask = [False] * len(texts[0])
            for first, last in ranges[0]:
                mask[first:last] = [True] * (last - first)
            marked = "".join(("[[" if on and not was else "]]" if was and not on else "") + c
                             for c, on, was in zip(texts[0], mask, [False] + mask)) + ("]]" if mask[-1] else "")
            out.write("    { messages = %s,\n      marked = %s },\n" % (quote(messages), quote(marked)))
        out.write("  } },\n")
    out.write("}\n")
