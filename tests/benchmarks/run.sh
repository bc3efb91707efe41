#!/usr/bin/env bash
# Runs the benchmarks, which print rates and ratios: bash tests/benchmarks/run.sh [pytest's arguments]
# Close everything else first: two cores are measured with two busy processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash jobs/setup.sh
source jobs/common.sh
exec python -m pytest -o addopts=--import-mode=importlib tests/benchmarks -s "$@"
