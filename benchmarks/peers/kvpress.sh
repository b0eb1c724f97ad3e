#!/usr/bin/env bash
# Installs kvpress, with the transformers that it needs, and optimum-quanto into an environment of its own: DIR, or
# .peers/kvpress. Takes the package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.peers/kvpress}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "torch>=2.11,<2.14" kvpress optimum-quanto
"$folder/bin/python" -c "import kvpress, transformers; print('kvpress beside transformers', transformers.__version__)"
