"""Makes regex.golden.json: what the tokenizers library cuts with patterns of tokenizer.json, and what Python's re matches.

usage: python make_regex.py

Made with the versions stored in the file. No network. Texts have no characters newer than Unicode 14.
"""

import json
import pathlib
import platform
import re

import tokenizers
from tokenizers import Regex, pre_tokenizers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(also, group):
    upper, lower = UPPER + also, LOWER + also
    start = r"[^\r\n\p{L}\p{N}]?"
    return f"{start}{upper}*{lower}+{group}?|{start}{upper}+{lower}*{group}?"


FAMILIES = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
    r"\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": cased("]", CONTRACTIONS) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": cased("]", "").replace("+?|", "+|")[:-1] + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama 3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL,
    "qwen 2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL,
    "qwen 3.5": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek 3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek han": "[一-龥\u3040-ゟ゠-ヿ]+",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "kimi": r"[\p{Han}]+|" + cased(r"&&[^\p{Han}]]", CONTRACTIONS) + r"|\p{N}{1,3}|" + TAIL,
}
PATTERNS = [
    # Lines, and what a dot is.
    "^abc", "xyz$", r"\s+$", r"^\s+", ".+", "(?m)b.+", "(?m).+", "(?m:a.)c|.", r"\Aabc", r"xyz\Z", r"xyz\z", r"\R+", "^", "$",
    # Classes.
    r"[\p{L}&&[^a]]+", "[a-z&&[^aeiou]]+", "[^a-m&&[^xyz]]+", "[a-z&&[^aeiou]&&[^x]]+", "[a-c[x-z]]+", "[^a-c[^x]]+",
    "[]a]+", "[a-c-e]+", "[--a]+", "[-a]+", "[a&b]+", r"[\]\-b^]+", r"[\x41-\x43\u00e9]+", r"[\b]", r"[\W]+", r"[\W\d]+",
    r"[^\W\d_]+", r"[\w.]+", r"[\h]+", r"[\H]+", r"[^\S ]+", r"[\D]+", r"[\P{L}\p{Lu}]+", r"[\p{^L}]+", "[[a]]+",
    "[[:alpha:]]+", r"[[:alpha:]\s]+", "[[:^alpha:]]+", "[[:word:]]+", "[[:space:]]+", "[[:punct:]]+", "[[:alnum:]]+",
    "[[:graph:]]+", "[[:print:]]+", "[[:upper:]]+", "[[:lower:]]+", "[[:digit:]]+", "[[:xdigit:]]+", "[[:cntrl:]]+",
    "[[:blank:]]+", "[[:ascii:]]+",
    # Escapes and properties.
    r"\w+", r"\W+", r"\b\w", r"\B.", r"\h+", r"\H+", r"\v", r"\s+", r"\S+", r"\d+", r"\D+", r"\u00e9", r"\x{1F600}", r"\e|\a",
    r"\p{Han}+", r"\p{Hiragana}+", r"\p{Katakana}+", r"\p{Arabic}+", r"\p{Latin}+", r"\p{lu}", r"\P{L}+", r"\p{^L}+",
    r"\P{^L}+", r"\p{White_Space}+", r"\p{Emoji_Presentation}+", r"\p{Alphabetic}+", r"\-\ \_\'",
    # Quantifiers.
    "a{,2}", "a{2}", "a{2,}", "a{,}", "a{}", "{a", "a}", r"\p{N}{1,3}+", "a{2}?", "a{2}+", "a{1,2}?", "a{0,2}+", "a?+", "a++a",
    "a*+b", "a+?", "a??b", "a**", "a+{2}", "a{2}{2}", "x*", "a|", "",
    # Groups and case.
    "(?i)abc|xyz", "a(?i)b|c", "(?:a(?i)b|c)d", "(?i:a)b", "(?i)a(?-i)b", "(?i:[a-c]+)", "(?i:[^a-c]+)", r"(?i:\u00e9)",
    "(?<n>a)b", "(?'n'a)b", "(?>a+)b", "(?=b)", "(?!b).", "(?<=a)b", "(?<!a)b", "(?<=^|[^a])b", "a(?#c)b", r"(a|b)\1",
    "(?i-m:k)", r"(?i)'(?:[sdmt]|ll|ve|re)",
]
TEXTS = [
    "abc def\nabc  \n  xyz\nxyz", "Hello, World's  BEST!  I'LL  pay $1234567.89 (or ½)\r\n\r\n\tnow",
    "你好。世界、ラーメンとー々 한국어", "نعم، لا می‌خواهم ٣٤ क्या है x² ¼ é\u0301 ÉCOLE", "😀👨‍👩‍👧 🏳️‍🌈 a$+b=c ^~`| {a,2} a{,} a{} a}",
    "aaaaab baab aXbx Kk ACD aCd ſ\x0b\x08\x07\x1b\x85\u2028\u180e.", "[]a-^&b\\ -_' \u00a0\u3000x\u200by_z 0x1F face",
]
PYTHON = {
    r".*\.(q|v)_proj": ["model.layers.0.self_attn.q_proj", "q_proj", "a.k_proj"],
    r"model\.layers\.(\d|1\d)\.mlp\..*": ["model.layers.12.mlp.up_proj", "model.layers.2.mlp.x", "model.layers.22.mlp.x"],
    "a{,2}b": ["aab", "aaab", "b"], r"a\Z": ["a", "a\n"], "a$": ["a", "a\n"], "^a": ["a", "b\na"], r"\v": ["\x0b", "\n"],
    r"\u0061\x62": ["ab"], "[[a]": ["[", "a", "b"], "[a&&b]": ["&", "a"], "(?i)Q_PROJ": ["q_proj", "k_proj"],
    "(?P<n>a)(?P=n)": ["aa", "ab"], r"(a)\1": ["aa", "ab"], "(?s:.)(?m:^)b": ["\nb", "ab"], "a{1,2}+b": ["aab"], "a{2}?": ["aa"],
    r"[^\W\d]+": ["a_b", "a1"], r"(?!.*lm_head).*proj": ["lm_head.proj", "x.proj"], "[]a]+": ["]a"], r"\bab\b": ["ab"], "{a": ["{a"],
}


def cut(splitter, text):
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def main():
    patterns = {}
    for pattern in list(FAMILIES.values()) + PATTERNS:
        splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
        pieces = {str(i): cut(splitter, text) for i, text in enumerate(TEXTS)}
        # Texts that a pattern leaves whole tell little: one is enough.
        whole = [i for i in pieces if len(pieces[i]) == 1]
        patterns[pattern] = {i: p for i, p in pieces.items() if len(p) > 1 or i == whole[0]}
    python = [[p, t, re.fullmatch(p, t) is not None] for p, texts in PYTHON.items() for t in texts]
    result = {
        "versions": {"tokenizers": tokenizers.__version__, "python": platform.python_version()}, "texts": TEXTS,
        "patterns": patterns, "families": FAMILIES, "python": python,
        "whitespace": [cut(pre_tokenizers.Whitespace(), text) for text in TEXTS],
    }
    path = pathlib.Path(__file__).parent / "regex.golden.json"
    path.write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
