"""Makes added.golden.json: the ids that the tokenizers library gives to added tokens of gpt2.json, and what they cut.

usage: python make_added.py

Made with tokenizers of the version stored in the file. No network.
"""

import json
import pathlib

import tokenizers
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).parent
BASE = json.loads((HERE / "gpt2.json").read_text())
SIZE = len(BASE["model"]["vocab"])
KNOWN = list(BASE["model"]["vocab"])[300]
KNOWN_ID = BASE["model"]["vocab"][KNOWN]
DECLARED = {
    "in order": [(SIZE, "<x>"), (SIZE + 1, "<y>")], "out of order": [(SIZE + 1, "<x>"), (SIZE, "<y>")],
    "gap": [(SIZE, "<x>"), (SIZE + 2, "<y>")], "far": [(SIZE + 200, "<x>")], "taken": [(5, "<x>")],
    "two of one id": [(SIZE, "<x>"), (SIZE, "<y>")], "twice": [(SIZE, "<x>"), (SIZE, "<x>")],
    "twice, other id": [(SIZE, "<x>"), (SIZE + 1, "<x>")], "of the vocabulary": [(SIZE, "<x>"), (KNOWN_ID, KNOWN)],
    "of the vocabulary, other id": [(SIZE, KNOWN)], "empty": [(SIZE, ""), (SIZE, "<x>")],
    "after empty": [(SIZE, ""), (SIZE + 1, "<x>")],
}
STRIPPED = [
    (content, flags, text)
    for content in ["\n", "<x>"]
    for flags in [{"lstrip": True, "rstrip": True}, {"lstrip": True}, {"rstrip": True}]
    for text in [f"a{content}{content}b", f"a{content} {content} b", f"a {content}{content}{content}", f" {content} "]
]


def added(number, content, **flags):
    token = {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return token | {"special": True} | flags


def tokenizer(tokens):
    return Tokenizer.from_str(json.dumps(BASE | {"added_tokens": tokens}))


def main():
    declared = []
    for name, tokens in DECLARED.items():
        tokens = [added(*token) for token in tokens]
        reference = tokenizer(tokens)
        declared.append({"name": name, "tokens": tokens, "ids": [reference.token_to_id(token["content"]) for token in tokens]})
    stripped = []
    for content, flags, text in STRIPPED:
        token = added(SIZE, content, **flags)
        stripped.append({"token": token, "text": text, "ids": tokenizer([token]).encode(text, add_special_tokens=False).ids})
    result = {"versions": {"tokenizers": tokenizers.__version__}, "declared": declared, "stripped": stripped}
    (HERE / "added.golden.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
