#!/bin/sh
# Installs the Python peers from PyPI under downloads/peers and writes SmolLM2-135M for them:
# downloads/peers/venv, downloads/peers/smollm2-f32 and smollm2-bf16 (Hugging Face directories made from the GGUF).
# Needs python3 with venv, 4 GB of disk and network access to PyPI; runs once, later calls return at once.
set -eu
cd "$(dirname "$0")/../.."
make -s downloads/SmolLM2-135M-Instruct.Q4_1.gguf
peers=downloads/peers
if ! test -x $peers/venv/bin/pip; then
  mkdir -p $peers
  python3 -m venv $peers/venv
  $peers/venv/bin/pip install -q -r Benchmarks/peers/requirements.txt
fi
for dtype in f32 bf16; do
  test -f $peers/smollm2-$dtype/model.safetensors ||
    HF_HUB_OFFLINE=1 $peers/venv/bin/python Tests/Fixtures/peers/export_gguf.py \
      downloads/SmolLM2-135M-Instruct.Q4_1.gguf $peers/smollm2-$dtype $dtype
done
