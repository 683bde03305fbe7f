-- Written by make_generation.py; do not edit.
return {
  { name = "after", source = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|end|>\n' }}{% endgeneration %}{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}{% if messages[-1].role == 'assistant' %}{% generation %}</s>{% endgeneration %}{% endif %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|>\n<|assistant|>\n[[Yo<|end|>\n</s>]]" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n[[Yo<|end|>\n]]<|user|>\nAnd?<|end|>\n<|assistant|>\n[[Grüße 🌍<|end|>\n</s>]]" },
  } },
  { name = "several", source = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% if m.reasoning_content %}{% generation %}<think>{{ m.reasoning_content }}</think>{% endgeneration %}{% endif %}{% for c in m.tool_calls or [] %}{% generation %}<call>{{ c.name }}</call>{% endgeneration %}{% endfor %}{% set said %}{{ m.content }}{% endset %}{% generation %}{{ said }}{% endgeneration %}{{ '<x>' }}{% generation %}<|end|>\n{% endgeneration %}{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|>\n<|assistant|>\n[[Yo]]<x>[[<|end|>\n]]" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n[[Yo]]<x>[[<|end|>\n]]<|user|>\nAnd?<|end|>\n<|assistant|>\n[[Grüße 🌍]]<x>[[<|end|>\n]]" },
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo", reasoning_content = "Hm.", tool_calls = { { name = "f" }, { name = "g" } } }, { role = "user", content = "And?" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|>\n<|assistant|>\n[[<think>Hm.</think><call>f</call><call>g</call>Yo]]<x>[[<|end|>\n]]<|user|>\nAnd?<|end|>\n<|assistant|>\n[[Yo]]<x>[[<|end|>\n]]" },
  } },
  { name = "macro", source = "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}<|end|>{% endmacro %}{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{{ say(m) }}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|><|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|><|user|>\nAnd?<|end|><|assistant|>\n[[Grüße 🌍]]<|end|>" },
  } },
  { name = "set", source = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% set x %}{% generation %}{{ m.content }}{% endgeneration %}{% endset %}{{ x }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|><|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|><|user|>\nAnd?<|end|><|assistant|>\n[[Grüße 🌍]]<|end|>" },
  } },
  { name = "call", source = "{% macro turn() %}{{ caller() }}<|end|>{% endmacro %}{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% call turn() %}{% generation %}{{ m.content }}{% endgeneration %}{% endcall %}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|><|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|><|user|>\nAnd?<|end|><|assistant|>\n[[Grüße 🌍]]<|end|>" },
  } },
  { name = "tight", source = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{%- generation-%}{{ m.content }}{%endgeneration%}<|end|>{% else %}{{ m.content }}{% endif %}{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|assistant|>\n[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|user|>\nHi<|assistant|>\n[[Yo]]<|end|><|user|>\nAnd?<|assistant|>\n[[Grüße 🌍]]<|end|>" },
  } },
  { name = "last", source = "{% for m in messages %}<|{{ m.role }}|>\n{% if loop.last and m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|end|><|assistant|>\n[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|end|><|user|>\nHi<|end|><|assistant|>\nYo<|end|><|user|>\nAnd?<|end|><|assistant|>\n[[Grüße 🌍]]<|end|>" },
  } },
  { name = "merged", source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% if m.role == 'tool' %}{% generation %}<more>{% endgeneration %}{% endif %}{% if m.role == 'assistant' %}{% generation %}<|end|>{% endgeneration %}{% endif %}{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|assistant|>\nYo[[<|end|>]]" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>\nBe.<|user|>\nHi<|assistant|>\nYo[[<|end|>]]<|user|>\nAnd?<|assistant|>\nGrüße 🌍[[<|end|>]]" },
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "tool", content = "7" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>\nHi<|assistant|>\nYo[[<|end|>]]<|tool|>\n7[[<more>]]<|assistant|>\nYo[[<|end|>]]" },
  } },
  { name = "whole", source = "{% generation %}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>{% endfor %}{% endgeneration %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "[[<|user|>\nHi<|end|><|assistant|>\nYo<|end|>]]" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "[[<|system|>\nBe.<|end|><|user|>\nHi<|end|><|assistant|>\nYo<|end|><|user|>\nAnd?<|end|><|assistant|>\nGrüße 🌍<|end|>]]" },
  } },
  { name = "by_number", source = "{% for i in range(messages | length) %}{% set m = messages[i] %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}", cases = {
    { messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" } },
      marked = "<|user|>Hi<|end|><|assistant|>[[Yo]]<|end|>" },
    { messages = { { role = "system", content = "Be." }, { role = "user", content = "Hi" }, { role = "assistant", content = "Yo" }, { role = "user", content = "And?" }, { role = "assistant", content = "Grüße 🌍" } },
      marked = "<|system|>Be.<|end|><|user|>Hi<|end|><|assistant|>[[Yo]]<|end|><|user|>And?<|end|><|assistant|>[[Grüße 🌍]]<|end|>" },
  } },
}
