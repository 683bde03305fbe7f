"""Writes chat.lua: what the models' own Jinja templates give (jinja2 3.1.6, environment as in transformers: trim_blocks,
lstrip_blocks). Templates are those published with Qwen2/SmolLM2, Llama-2-chat, Llama-3-Instruct, Mistral-7B-Instruct-v0.2, Zephyr."""
import jinja2

T = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
              "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "chatml_default": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
              "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
              "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]"
              "['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in "
              "loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('x') }}{% endif %}"
              "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>"
              "\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == "
              "'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
              "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
              "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
              "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
               "{{ raise_exception('x') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
               "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% endif %}{% endfor %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
              "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
              "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
              "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
}
M = {
    "plain": [("user", "  What is NF4? "), ("assistant", " Four bits.\n"), ("user", "More\nplease"), ("assistant", "")],
    "system": [("system", "Be brief."), ("user", "Grüße, 世界 🌍"), ("assistant", "Hallo!")],
    "open": [("user", "Hi")],
}
env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


with open(__file__.rsplit("/", 1)[0] + "/chat.lua", "w") as out:
    out.write("-- Written by make_chat.py; do not edit.\nreturn {\n")
    for name, source in T.items():
        for case, turns in M.items():
            if name == "mistral" and case == "system":
                continue  # the template refuses system messages
            for generate in (False, True):
                text = env.from_string(source).render(messages=[{"role": r, "content": c} for r, c in turns],
                                                      bos_token="<s>", eos_token="</s>", add_generation_prompt=generate)
                turns_lua = ", ".join("{ role = %s, content = %s }" % (quote(r), quote(c)) for r, c in turns)
                out.write("  { template = %s, generate = %s, messages = { %s },\n    text = %s },\n" % (
                    quote(name), str(generate).lower(), turns_lua, quote(text)))
    out.write("}\n")
