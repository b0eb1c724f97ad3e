#!/usr/bin/env bash
# Builds llama.cpp from source (through llama-cpp-python) into an environment of its own: DIR, or .peers/llama_cpp.
# Takes a compiler, ten to twenty minutes on two cores, and the package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.peers/llama_cpp}
python3 -m venv "$folder"
CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
    "$folder/bin/pip" install --quiet --no-binary llama-cpp-python llama-cpp-python
"$folder/bin/python" -c "import llama_cpp; print('llama-cpp-python', llama_cpp.__version__)"
