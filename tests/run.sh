#!/usr/bin/env bash
# Sets up and runs the tests: bash tests/run.sh [pytest's arguments], e.g. bash tests/run.sh -m long
# As root on Debian or Ubuntu it installs Slurm for the Slurm tests; elsewhere, where there is none, those are
# reported as skipped, by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash jobs/setup.sh

SLURM=(slurm-wlm munge libpmix-dev)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s "${SLURM[@]}" >/dev/null 2>&1; then
    echo "[tests] installing ${SLURM[*]} for the Slurm tests"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends "${SLURM[@]}"; } >/dev/null \
        || echo "[tests] Slurm could not be installed; its tests will be skipped"
fi

source jobs/common.sh
exec python -m pytest "$@"
