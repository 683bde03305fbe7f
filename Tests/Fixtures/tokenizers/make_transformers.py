"""Makes the golden data of what stands beside a tokenizer: ids of transformers for the small tokenizers of
make_golden.py with side files, masks of chats, and the lists of keys that the peers know.

usage: python make_transformers.py

Made with the versions stored in keys.json. No network, no torch.
"""

import ast
import inspect
import json
import os
import pathlib
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import sentencepiece
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, tokenization_utils_base, tokenization_utils_tokenizers

HERE = pathlib.Path(__file__).parent
LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
TEXTS = [
    "", "a", " ", "Hello, world!", "x</s>y", "x</s> y </s>", "<s>hi</s> there", " one space", "  two  spaces  ", "\n</s>\n",
    "a\r\nb\r\n", "\ufeffbom", "café e\u0301", "<mask>x<mask> y", "<a>b<a> <a>", "<|eos|>in <|bos|> text", "ünïcödé 你好",
]


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
            "special": True} | flags


# What lies in a folder: a tokenizer of make_golden.py and the files beside it.
FOLDERS = {
    "legacy_absent": ("spm.model", {"tokenizer_config.json": LLAMA | {"add_bos_token": False}}),
    "legacy_false": ("spm.model", {"tokenizer_config.json": LLAMA | {"legacy": False, "add_bos_token": True}}),
    "legacy_true": ("spm.model", {"tokenizer_config.json": LLAMA | {"legacy": True, "add_bos_token": True, "add_eos_token": True}}),
    "no_prefix": ("spm.model", {"tokenizer_config.json": LLAMA | {"add_prefix_space": False, "add_bos_token": True}}),
    "no_prefix_legacy": ("spm.model", {"tokenizer_config.json": LLAMA | {"legacy": True, "add_prefix_space": False, "add_bos_token": True}}),
    "split": ("spm.model", {"tokenizer_config.json": LLAMA | {"split_special_tokens": True, "add_bos_token": True}}),
    "model_added": ("spm.model", {
        "tokenizer_config.json": LLAMA | {"add_bos_token": True, "pad_token": "<a>"},
        "added_tokens.json": {"<a>": "NEXT"}}),
    "json_added": ("llama3.json", {
        "tokenizer_config.json": FAST | {"bos_token": "<|bos|>", "eos_token": "<a>"},
        "added_tokens.json": {"<a>": "NEXT", "café": "NEXT+1"}}),
    "json_decoder": ("llama3.json", {
        "tokenizer_config.json": FAST | {"bos_token": "<|bos|>", "eos_token": "<a>", "added_tokens_decoder": {
            "NEXT": token("<a>", rstrip=True), "1": token("<|eos|>", lstrip=True)}},
        "added_tokens.json": {"not read": 7}, "special_tokens_map.json": {"eos_token": "<|bos|>"}}),
    "json_map": ("llama3.json", {
        "tokenizer_config.json": FAST | {"bos_token": "<|eos|>", "eos_token": "<|eos|>"},
        "special_tokens_map.json": {"bos_token": token("<|bos|>"), "additional_special_tokens": ["x"]}}),
    "json_border_flags": ("llama3.json", {
        "tokenizer_config.json": FAST | {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "add_bos_token": False,
                                         "add_eos_token": True, "add_prefix_space": True}}),
    "json_normalized": ("metaspace_always.json", {
        "tokenizer_config.json": FAST | {"unk_token": "<unk>"}, "added_tokens.json": {"<a>": "NEXT"}}),
}

CHATS = {"legacy_absent": "", "legacy_true": "", "json_added": "", "json_normalized": "", "no_prefix": ""}
TURNS = ["Hi", "Hello.", "What is 12?", " 12 of course", "e", "\u0301nd", "", "x y"]
JINJA = ("{% for m in messages %}{% if m.role == 'user' %}[U] {{ m.content }} [/U]{% else %}{% generation %}"
         "{{ m.content }}{% endgeneration %}{{ end }}{% endif %}{% endfor %}")


def folder(name):
    source, files = FOLDERS[name]
    path = tempfile.mkdtemp()
    shutil.copy(HERE / source, f"{path}/tokenizer.{source.rsplit('.', 1)[1]}")
    if source.endswith("json"):
        size = Tokenizer.from_file(str(HERE / source)).get_vocab_size()
    else:
        size = sentencepiece.SentencePieceProcessor(str(HERE / source)).get_piece_size()

    def numbered(value):
        text = json.dumps(value).replace('"NEXT+1"', str(size + 1))
        # As a key it stays a string, as a value it is a number.
        return text.replace('"NEXT":', f'"{size}":').replace('"NEXT"', str(size))

    written = {}
    for file, value in files.items():
        written[file] = json.loads(numbered(value))
        pathlib.Path(path, file).write_text(json.dumps(written[file]))
    return path, source, written


def side_files():
    out = []
    for name in FOLDERS:
        path, source, files = folder(name)
        t = AutoTokenizer.from_pretrained(path)
        cases = []
        for text in TEXTS:
            ids = t.encode(text)
            cases.append({"text": text, "ids": ids, "bare": t.encode(text, add_special_tokens=False)})
        chats = []
        for end in ["", "\n", "<a>"] if name in CHATS else []:
            messages = [{"role": ["user", "assistant"][i % 2], "content": c} for i, c in enumerate(TURNS)]
            got = t.apply_chat_template(messages, chat_template=JINJA, tokenize=True, return_dict=True,
                                        return_assistant_tokens_mask=True, end=end)
            parts = []
            for m in messages:
                if m["role"] == "user":
                    parts.append([f"[U] {m['content']} [/U]", False])
                else:
                    parts += [[m["content"], True], [end, False]]
            chats.append({"parts": parts, "ids": list(got["input_ids"]), "mask": list(got["assistant_masks"])})
        roles = {k: getattr(t, k + "_id") for k in ["bos_token", "eos_token", "pad_token"]}
        out.append({"name": name, "source": source, "files": files, "cases": cases, "chats": chats, "roles": roles})
    return out


def keyword_names(function):
    """Names that a function takes, and those that it looks up in its keywords."""
    names = set(inspect.signature(function).parameters) - {"self", "cls", "args", "kwargs", "init_inputs"}
    for node in ast.walk(ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop", "setdefault"):
            if isinstance(node.func.value, ast.Name) and "kwargs" in node.func.value.id and node.args:
                if isinstance(node.args[0], ast.Constant):
                    names.add(node.args[0].value)
    return names


def config_keys():
    names = keyword_names(tokenization_utils_base.PreTrainedTokenizerBase.__init__)
    names |= keyword_names(tokenization_utils_tokenizers.TokenizersBackend.__init__)
    names |= set(tokenization_utils_base.PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES)
    for name in ["LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "GemmaTokenizer", "CodeLlamaTokenizer"]:
        names |= keyword_names(getattr(transformers, name).__init__)
    return sorted(n for n in names if not n.startswith("_"))


def json_keys():
    """The keys that tokenizers writes, by part of the file."""
    found = {part: set() for part in ["file", "model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_token"]}

    def collect(t):
        spec = json.loads(t.to_str())
        found["file"] |= set(spec)
        found["model"] |= set(spec["model"])
        for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"]:
            if spec[part]:
                found[part] |= set(spec[part])
        for added in spec["added_tokens"]:
            found["added_token"] |= set(added)

    n, p, d, o = normalizers, pre_tokenizers, decoders, processors
    for part, steps in {
        "normalizer": [n.NFC(), n.NFD(), n.Lowercase(), n.Prepend("x"), n.Replace("a", "b"), n.Strip(), n.Sequence([])],
        "pre_tokenizer": [p.ByteLevel(), p.Split(" ", "removed"), p.Digits(), p.Punctuation(), p.Metaspace(), p.Whitespace(),
                          p.WhitespaceSplit(), p.Sequence([])],
        "post_processor": [o.TemplateProcessing(single="$A", special_tokens=[]), o.ByteLevel(), o.Sequence([])],
        "decoder": [d.ByteLevel(), d.ByteFallback(), d.Fuse(), d.Replace("a", "b"), d.Strip("a", 0, 0), d.Metaspace(),
                    d.Sequence([])],
    }.items():
        for step in steps:
            t = Tokenizer(models.BPE())
            setattr(t, part, step)
            t.add_special_tokens(["<s>"])
            collect(t)
    return {part: sorted(keys) for part, keys in found.items()}


def kinds(module, base):
    return sorted(n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base) and c is not base)


def keys():
    fields = lambda message: sorted(f.name for f in message.DESCRIPTOR.fields)
    return {
        "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
                     "sentencepiece": sentencepiece.__version__},
        "tokenizer_config": config_keys(),
        "json": json_keys(),
        "kinds": {
            "model": kinds(models, models.Model), "normalizer": kinds(normalizers, normalizers.Normalizer),
            "pre_tokenizer": kinds(pre_tokenizers, pre_tokenizers.PreTokenizer),
            "post_processor": kinds(processors, processors.PostProcessor), "decoder": kinds(decoders, decoders.Decoder),
        },
        "sentencepiece": {
            "model": sorted(set(fields(proto.ModelProto)) | set(fields(proto.ModelProto.SentencePiece))),
            "trainer_spec": fields(proto.TrainerSpec), "normalizer_spec": fields(proto.NormalizerSpec),
        },
    }


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


write("keys.json", keys())
(HERE / "transformers.golden.json").write_text(json.dumps(side_files(), ensure_ascii=False, separators=(",", ":")) + "\n")
