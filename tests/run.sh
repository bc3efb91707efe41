#!/usr/bin/env bash
# Sets up and runs the tests: bash tests/run.sh. With pytest's arguments, e.g. bash tests/run.sh -m long, it runs
# those that they choose, one by one.
# As root on Debian or Ubuntu it installs Slurm for the Slurm tests; elsewhere, where there is none, those are
# reported as skipped, by name.
#   bash tests/run.sh --container        proves the container's recipe instead, see tests/container.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${1:-}" = --container ]; then exec bash tests/container.sh "${@:2}"; fi
bash jobs/setup.sh

SLURM=(slurm-wlm munge libpmix-dev)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s "${SLURM[@]}" >/dev/null 2>&1; then
    echo "[tests] installing ${SLURM[*]} for the Slurm tests"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends "${SLURM[@]}"; } >/dev/null \
        || echo "[tests] Slurm could not be installed; its tests will be skipped"
fi

source jobs/common.sh
if [ $# -gt 0 ]; then exec python -m pytest "$@"; fi

# Two files at a time; then, one by one, what has the machine to itself: ranks and daemons, which watch the clock.
left="not long and not benchmark"
status=0
python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder -m "$left and not mpi and not slurm" || status=$?
python -m pytest -m "$left and (mpi or slurm)" || status=$?
exit $status
