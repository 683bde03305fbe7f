"""Makes the golden data of the tokenizer tests: small tokenizers trained here, and ids and decodes of varied texts.

usage: python make_golden.py [SMOLLM2_TOKENIZER_DIRECTORY]

Made with tokenizers, sentencepiece and transformers of the versions stored in versions.json. No network.
"""

import io
import json
import pathlib
import random
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing  ",
    "It's they'll we've I'M DON'T you'Re he'S",
    "a  b   c    d\t\te\n\nf \n g\r\nh\r\n\r\n   i",
    "line one\nline two\r\n\tindented\n    four spaces\n\n\n",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F x2y3 ½ ² Ⅷ ٣٤ ४५",
    "def f(x: int) -> str:\n    return f\"{x!r}\" if x >= 0 else None  # note\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; }",
    "Größe café naïve e\u0301 A\u030a Å \u212b ñ n\u0303",
    "你好,世界!今天天气很好。 日本語のテキスト 한국어 텍스트",
    "नमस्ते दुनिया שלום עולם مرحبا بالعالم Привет, мир",
    "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 emoji😀inside ❤️",
    "zero\u200bwidth \u00a0nbsp\u3000ideographic\u2028line\u0085next \ufeffbom",
    "<s>in text</s> <|endoftext|> <|bos|>x<|eos|> y <unk> <|end",
    "<|endoftext|><|endoftext|>twice  <mask>  spaced <word>s a<word> <word> b <lower> <LOWER>",
    "\u2581mark ▁ ▁▁two",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bananabanana mississippi",
    "\x00\x01\x7f control\x1b[0m",
    "!!!??? ... --- ___ $$$ <=> ^~| «quoted» “x” …",
    "ſ'ſ 's'S ΑΣ ς İ ẞ",
    "CamelCase snake_case kebab-case https://example.org/a?b=c&d=%20#e user@mail.com",
    "\n", "\r\n", "   \n   ", "\t \t",
]
CORPUS = [line for line in (HERE.parent / "peers" / "training_text.txt").read_text().splitlines() if line] + TEXTS[:9] * 3
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(size, special):
    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator(CORPUS, byte_level(500, ["<|endoftext|>"]))
    t.add_tokens(
        [
            AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("<word>", single_word=True, normalized=False),
            AddedToken("<|endoftext|><|", normalized=False),
        ]
    )
    return t


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, byte_level(600, ["<|bos|>", "<|eos|>"]))
    t.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B", special_tokens=[("<|bos|>", 0)]),
        ]
    )
    return t


def digits():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, byte_level(400, ["<|endoftext|>"]))
    return t


def qwen_like():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, byte_level(350, ["<|endoftext|>"]))
    t.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])
    return t


BYTES = [f"<0x{i:02X}>" for i in range(256)]


def llama2():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    words = [w for line in CORPUS for w in line.split(" ")]
    t.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", "<s>", "</s>"] + BYTES, show_progress=False)
    )
    # The byte names are ordinary vocabulary in Llama's file, not added tokens.
    spec = json.loads(t.to_str())
    spec["added_tokens"] = [a for a in spec["added_tokens"] if a["content"] not in BYTES]
    t = Tokenizer.from_str(json.dumps(spec))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t


def metaspace(scheme, split, lower):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    steps = [normalizers.NFD(), normalizers.Strip(left=False), normalizers.Replace(Regex(r"\s+"), " ")]
    t.normalizer = normalizers.Sequence(steps + ([normalizers.Lowercase()] if lower else []))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    t.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=250, special_tokens=["<unk>"], show_progress=False))
    t.add_tokens([AddedToken("<LOWER>", normalized=True)])
    return t


def words(pre):
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False))
    return t


def cases(encode, decode, bare, size):
    out = []
    for text in TEXTS:
        ids = encode(text)
        out.append({"text": text, "ids": ids, "bare": bare(text), "decoded": decode(ids, False), "skipped": decode(ids, True)})
    rng = random.Random(5)
    loose = [[rng.randrange(size) for _ in range(rng.randrange(1, 12))] for _ in range(20)]
    return {"cases": out, "loose": [{"ids": i, "decoded": decode(i, False), "skipped": decode(i, True)} for i in loose]}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def golden(t):
    return cases(
        lambda s: t.encode(s).ids,
        lambda i, skip: t.decode(i, skip_special_tokens=skip),
        lambda s: t.encode(s, add_special_tokens=False).ids,
        t.get_vocab_size(),
    )


def library(name, t):
    spec = json.loads(t.to_str())
    write(f"{name}.json", spec)
    result = golden(t)
    # "literal": special tokens as text.
    t.encode_special_tokens = True
    for case in result["cases"]:
        case["literal"] = t.encode(case["text"], add_special_tokens=False).ids
    write(f"{name}.golden.json", result)


def sentencepiece_model():
    for name, options in {"spm": dict(byte_fallback=True), "spm_plain": dict(remove_extra_whitespaces=True)}.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe",
            vocab_size=700 if name == "spm" else 250, hard_vocab_limit=False,
            **(dict(remove_extra_whitespaces=False) | options), normalization_rule_name="identity",
            character_coverage=0.98, user_defined_symbols=["<mask>"] if name == "spm" else [], minloglevel=2,
        )
        (HERE / f"{name}.model").write_bytes(model.getvalue())
        p = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        # Texts that spell control tokens differ by design: sentencepiece alone never recognises them.
        texts = [t for t in TEXTS if "<s>" not in t and "<unk>" not in t]
        if name == "spm":
            texts = [t for t in texts if "<mask>" not in t]
        # A last newline ends no text: the space before it stays.
        texts += ["b \n", "b \n ", "\n b", "  b  \n  c  "]
        write(f"{name}.golden.json", {"cases": [{"text": t, "bare": p.encode(t)} for t in texts]})


def training():
    """The merges that the library's own trainer finds."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(CORPUS, byte_level(600, ["<|endoftext|>", "<|pad|>"]))
    spec = json.loads(t.to_str())["model"]
    texts = [line for line in CORPUS if "<|endoftext|>" not in line]
    assert texts == CORPUS
    write("training.golden.json", {"merges": spec["merges"], "vocab": list(sorted(spec["vocab"], key=spec["vocab"].get)),
                                   "texts": TEXTS[:9]})


def smollm2(directory):
    t = Tokenizer.from_file(f"{directory}/tokenizer.json")
    result = golden(t)
    chat = "<|im_start|>user\nHi there!<|im_end|>\n<|im_start|>assistant\n"
    result["cases"].append({"text": chat, "ids": t.encode(chat).ids, "bare": t.encode(chat).ids,
                            "decoded": t.decode(t.encode(chat).ids, skip_special_tokens=False),
                            "skipped": t.decode(t.encode(chat).ids, skip_special_tokens=True)})
    write("smollm2.golden.json", result)


def main():
    library("gpt2", gpt2())
    library("llama3", llama3())
    library("digits", digits())
    library("qwen", qwen_like())
    library("llama2", llama2())
    library("metaspace_always", metaspace("always", True, True))
    library("metaspace_first", metaspace("first", False, False))
    library("whitespace", words(pre_tokenizers.Whitespace()))
    library("punctuation", words(pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Split(Regex("[aeiou]+"), "contiguous", invert=True)])))
    sentencepiece_model()
    training()
    if len(sys.argv) > 1:
        smollm2(sys.argv[1])
    write("versions.json", {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__})


main()
