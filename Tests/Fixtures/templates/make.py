"""Writes expected.json: what transformers renders of each template here, or that it is an error.

    python Tests/Fixtures/templates/make.py

Made with transformers 5.23.0 and jinja2 3.1.6. The templates are texts of this project: some exercise every construct
that templates use, the others are miniatures with one feature of a published model each.
"""

import json
import pathlib
import sys

import jinja2
import transformers

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here / "../../../Benchmarks/templates"))
from compare import expected  # noqa: E402
from conversations import CONVERSATIONS, VARIABLES  # noqa: E402

made = {"versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__}, "variables": VARIABLES,
        "conversations": CONVERSATIONS, "texts": {}}
for path in sorted(here.glob("*.jinja")):
    texts = made["texts"][path.stem] = []
    for case in CONVERSATIONS:
        fine, text = expected(path.read_text(encoding="utf-8"), case)
        texts.append(text if fine else None)
(here / "expected.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
