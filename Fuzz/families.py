"""Draws configs of every family whose fields are not the defaults, and compares a tiny random model of each with
transformers and PEFT: logits of a short and of a long text, logits, loss and gradients with an adapter, greedy tokens out
of the cache, and the folder that model:save writes, which both read again.

    python Fuzz/families.py --count 200 --seed 1 [--family NAME] [--case SEED] [--program PATH]

Needs torch 2.13, transformers 5.23, peft 0.21 and safetensors. A config that transformers computes is computed here with
the same numbers (to 1e-4 of their standard deviation), or refused with an error that names a field. Prints what differs,
then how many configs were equal and why others were refused; exit code 1 where something differed. `--case` draws one
config again, prints it and keeps its folder.
"""
import argparse, collections, json, math, os, pathlib, random, re, shutil, subprocess, sys, tempfile, warnings
import torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from families_configs import FAMILIES, draw
from running import program

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.simplefilter("ignore")
RECIPE = pathlib.Path(__file__).with_name("families.lua")
# Products of experts in one kernel want other sizes.
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
TOLERANCE, GENERATED, BATCH = 1e-4, 6, 25


def alphabet(count):
    """A tokenizer of one character for each token."""
    vocabulary = {chr(0x4E00 + i): i for i in range(count)}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}, "post_processor": None, "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocabulary, "merges": []}}


def distance(got, wanted):
    """The largest difference in units of the standard deviation of what is wanted."""
    if got.shape != wanted.shape or not torch.isfinite(got).all():
        return math.inf
    return ((got - wanted).abs().max() / max(wanted.std().item() if wanted.numel() > 1 else wanted.abs().item(), 1e-9)).item()


def load(folder):
    config = AutoConfig.from_pretrained(folder)
    # What is called a causal model of a multimodal one has the names of the text model alone.
    kind = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    return config, kind


class Case:
    def __init__(self, family, seed, root):
        self.family, self.seed, self.folder = family, seed, root / f"{family}-{seed}"
        self.random = random.Random(f"{family} {seed}")
        self.config, self.length = draw(family, self.random)
        self.text = self.config.get("text_config", self.config)
        self.error = None

    def make(self):
        """Writes the folder, the texts and what the peers compute."""
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_text(json.dumps(self.config, indent=1))
        vocabulary = self.text["vocab_size"]
        (self.folder / "tokenizer.json").write_text(json.dumps(alphabet(vocabulary)))
        self.short = [self.random.randrange(vocabulary) for _ in range(self.random.choice((1, 5, 9)))]
        self.long = [self.random.randrange(vocabulary) for _ in range(self.length)]
        torch.manual_seed(self.seed)
        try:
            config, kind = load(self.folder)
            model = kind.from_config(config, dtype=torch.float32, **EAGER).eval()
            with torch.no_grad():
                for name, p in model.named_parameters():
                    if name.endswith("A_log"):
                        p.copy_(torch.linspace(-4, 0.5, p.numel()))
                    elif p.dim() == 1:
                        p.add_(0.3 * torch.randn_like(p))
                    else:
                        p.normal_(std=0.7 / math.sqrt(p.shape[-1]))
                    # model:save rounds to this; so nothing is lost there.
                    p.copy_(p.bfloat16())
            model.save_pretrained(self.folder)
            (self.folder / "config.json").write_text(json.dumps(self.config, indent=1))
            (self.folder / "generation_config.json").unlink(missing_ok=True)
            self.wanted = self.compute(kind)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def compute(self, kind):
        model = kind.from_pretrained(self.folder, dtype=torch.float32, **EAGER).eval()
        logits = lambda m, ids: m(torch.tensor([ids]), use_cache=False).logits[0]
        with torch.no_grad():
            found = {"short": logits(model, self.short), "long": logits(model, self.long)}
            ends = model.config.get_text_config().eos_token_id
            ends = set(ends if isinstance(ends, list) else [ends])
            ids = self.long[:-GENERATED]
            self.tokens = []
            while len(self.tokens) < GENERATED:
                # A type of rope remembers the longest text.
                again = kind.from_pretrained(self.folder, dtype=torch.float32, **EAGER).eval() \
                    if "dynamic" in json.dumps(self.config) else model
                row = logits(again, ids + self.tokens)[-1]
                two = row.topk(2).values
                token = int(row.argmax())
                if token in ends or (two[0] - two[1]) < 1e-3 * row.std():
                    break
                self.tokens.append(token)
        targets = r".*language_model\.layers\..*_proj(_\w+)?" if "text_config" in self.config else "all-linear"
        adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=targets)).eval()
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.2)
        adapted.save_pretrained(self.folder / "adapter")
        found["adapted"] = logits(adapted, self.long).detach()
        if len(self.long) > 1:
            ids = torch.tensor([self.long])
            loss = adapted(ids, labels=ids, use_cache=False).loss
            loss.backward()
            found["loss"] = loss.detach().reshape(1)
            for name, p in adapted.named_parameters():
                # The engine has a matrix for each expert; logits and other gradients speak for these.
                if p.requires_grad and ".experts." not in name and ".gate." not in name:
                    key = name.replace("base_model.model.", "").replace(".default", "")
                    found["grad." + key] = p.grad if p.grad is not None else torch.zeros_like(p)
        return found

    def tolerance(self, name):
        """Recurrent layers, gradients and adapters in large products round over and over."""
        kind = 20 if name.startswith("grad.") else 5 if name in ("adapted", "loss") else 1
        return TOLERANCE * kind * (5 if "linear_key_head_dim" in self.text else 1)

    def judge(self, answer):
        """What differs, as texts; and why the engine refused, or nil."""
        said = answer.get("error")
        if self.error:
            # transformers is the truth of what it computes, not of what is an error.
            return [], f"both refuse: {template(said)} / {template(self.error)}" if said else "ONLY TRANSFORMERS REFUSES: " + template(self.error)
        if said:
            # The adapter's config is PEFT's own.
            named = [k for k in [*keys(self.config), "partial_rotary_factor"] if k in said] or "adapter_config.json" in said
            return ([] if named else [f"an error that names no field: {said}"]), template(said)
        found, got = [], load_file(self.folder / "answers.safetensors")
        for name, wanted in self.wanted.items():
            mine = got.get(name)
            if mine is None:
                found.append(f"{name}: absent")
                continue
            far = distance(mine.reshape(wanted.shape).float(), wanted)
            if far > self.tolerance(name) and (mine.reshape(wanted.shape) - wanted).abs().max() > 1e-6:
                found.append(f"{name}: {far:.1e} deviations")
        found += [f"alone: {text}" for text in answer.get("wrong") or []]
        text = answer.get("text", "")
        tokens = [ord(c) - 0x4E00 for c in text]
        if tokens[:len(self.tokens)] != self.tokens:
            found.append(f"greedy tokens {tokens}, wanted {self.tokens}")
        if answer.get("save_error"):
            return found + [f"save: {answer['save_error']}"], None
        try:
            config, kind = load(self.folder / "saved")
            saved = kind.from_pretrained(self.folder / "saved", dtype=torch.float32, **EAGER).eval()
            with torch.no_grad():
                for name, ids in (("short", self.short), ("long", self.long)):
                    wanted = saved(torch.tensor([ids]), use_cache=False).logits[0]
                    far = distance(got["saved_" + name], wanted)
                    if far > self.tolerance(name):
                        found.append(f"saved folder, {name}: {far:.1e} deviations between the engine and transformers")
                    far = distance(wanted, self.wanted[name])
                    if far > TOLERANCE:
                        found.append(f"saved folder, {name}: {far:.1e} deviations from the model that was saved")
        except Exception as error:
            found.append(f"saved folder: {type(error).__name__}: {str(error)[:200]}")
        return found, None


def keys(config):
    for key, value in config.items():
        yield key
        if isinstance(value, dict):
            yield from keys(value)


def template(said):
    """Without paths and numbers, so that equal reasons are counted together."""
    return re.sub(r"-?\b\d+(\.\d+)?(e-?\d+)?", "N", re.sub(r"\S*/\S*:? ?", "", said.replace("\n", " ")))[:130]


def answers(name, cases, root):
    """Runs the engine on all cases; one that ends it is found by halving."""
    if not cases:
        return {}
    jobs = root / "jobs.json"
    jobs.write_text(json.dumps([{"name": c.folder.name, "folder": str(c.folder), "short": c.short, "long": c.long,
                                 "generated": GENERATED, "computed": c.error is None} for c in cases]))
    (root / "answers.json").unlink(missing_ok=True)
    try:
        done = subprocess.run([name, "--quiet", str(RECIPE), "--set", f"root={root}"], capture_output=True, text=True,
                              timeout=60 + 20 * len(cases))
        code, errors = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, errors = None, "no end"
    if code == 0:
        return json.loads((root / "answers.json").read_text())
    if len(cases) == 1:
        return {cases[0].folder.name: {"error": None, "crash": f"exit {code}: {errors[-500:]}"}}
    half = len(cases) // 2
    return answers(name, cases[:half], root) | answers(name, cases[half:], root)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--family", choices=sorted(FAMILIES))
    options.add_argument("--case", type=int)
    options.add_argument("--program")
    o = options.parse_args()
    torch.set_num_threads(1)
    name, root = program(o.program), pathlib.Path(tempfile.mkdtemp(prefix="qlora-families-"))
    families = [o.family] if o.family else sorted(FAMILIES)
    wanted = [(o.family, o.case)] if o.case is not None else \
        [(families[i % len(families)], o.seed * 100000 + i) for i in range(o.count)]
    equal, reasons, files, wrong = collections.Counter(), collections.Counter(), collections.Counter(), 0
    for start in range(0, len(wanted), BATCH):
        cases = [Case(*which, root) for which in wanted[start:start + BATCH]]
        for case in cases:
            case.make()
        found = answers(name, cases, root)
        for case in cases:
            answer = found[case.folder.name]
            if answer.get("gguf"):
                files[f"{case.family}: {template(answer['gguf'])}"] += 1
            differs, reason = ([f"crash: {answer['crash']}"], None) if answer.get("crash") else case.judge(answer)
            if differs:
                wrong += 1
                print(f"{case.family} --case {case.seed}: " + "; ".join(differs[:4]), flush=True)
                if o.case is None:
                    print("    " + json.dumps(case.config), flush=True)
            elif reason:
                reasons[f"{case.family}: {reason}"] += 1
            else:
                equal[case.family] += 1
            if o.case is not None:
                print(json.dumps(case.config, indent=1), answer, case.error, case.folder, sep="\n")
            else:
                shutil.rmtree(case.folder)
    for reason, count in [*sorted(reasons.items()), *((f"no GGUF file: {k}", n) for k, n in sorted(files.items()))]:
        print(f"{count:4} {reason}")
    print(f"{len(wanted)} configs: {sum(equal.values())} equal, {sum(reasons.values())} refused, {wrong} wrong; "
          + ", ".join(f"{f} {n}" for f, n in sorted(equal.items())))
    if o.case is None:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
