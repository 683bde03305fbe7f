#!/bin/sh
# Installs the Python peers from PyPI under downloads/peers and writes models for them, runs once; later calls return at
# once. Needs python3 with venv, 8 GB of disk and network access to PyPI.
#
#   prepare.sh          venv; smollm2-f32 and smollm2-bf16 (Hugging Face directories made from the GGUF of SmolLM2);
#                       synthetic-1.1b (the shape of TinyLlama with random weights)
#   prepare.sh llama    also llama-avx2 and llama-native: llama.cpp built from the sources in llama-cpp-python for AVX2 and
#                       for this processor (a C++ compiler, 10 minutes each); smollm2.Q4_0.gguf
set -eu
cd "$(dirname "$0")/../.."
gguf=downloads/SmolLM2-135M-Instruct.Q4_1.gguf
make -s $gguf
peers=downloads/peers
if ! test -x $peers/venv/bin/python; then
  mkdir -p $peers
  python3 -m venv $peers/venv
  $peers/venv/bin/pip install -q -r Benchmarks/peers/requirements.txt
fi
for dtype in f32 bf16; do
  test -f $peers/smollm2-$dtype/model.safetensors ||
    HF_HUB_OFFLINE=1 $peers/venv/bin/python Tests/Fixtures/peers/export_gguf.py $gguf $peers/smollm2-$dtype $dtype
done
test -f $peers/synthetic-1.1b/model.safetensors ||
  $peers/venv/bin/python Benchmarks/peers/random_model.py $peers/synthetic-1.1b
test "${1:-}" = llama || exit 0

# llama.cpp chooses its kernels when it is built, so each set needs a build of its own: none from the cache of pip.
build_llama() {
  test -d $peers/llama-$1/lib && $peers/llama-$1/bin/python -c 'import llama_cpp' 2>/dev/null && return
  python3 -m venv $peers/llama-$1
  CMAKE_ARGS="$2 -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAVA_BUILD=OFF" \
    $peers/llama-$1/bin/pip install -q --no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36
}
build_llama avx2 "-DGGML_NATIVE=OFF -DGGML_AVX512=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
build_llama native "-DGGML_NATIVE=ON"
test -f $peers/smollm2.Q4_0.gguf ||
  $peers/llama-avx2/bin/python Benchmarks/steps/llama.py --quantize $gguf $peers/smollm2.Q4_0.gguf
