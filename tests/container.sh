#!/usr/bin/env bash
# Proves the recipe containers/mlmd-cpu.def where Apptainer is not installed: bash tests/run.sh --container
# %files and %post run in a clean Debian root file system; then, read-only and as an ordinary user, %test and the main
# job run in it, and the job script starts its ranks from outside. Root is needed, 5 GB and 10 to 20 minutes.
#
#   MLMD_CONTAINER_FOLDER=/scratch bash tests/run.sh --container     the root file system lies there, not in /tmp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOP=$PWD RECIPE=containers/mlmd-cpu.def
RUN_FILE="
name: inside
out: runs/inside
seed: 3
dataset: {systems: [harmonic], thin: 10, time: 20.0, test_time: 20.0, test_systems: 2, block: 8}
cluster: {kind: local, workers: 2}
model: {units: 8, window: 3, dropout: 0.2}
training: {strides: [100], epochs: 2, steps_per_epoch: 50, batch: 8, learning_rate: 0.002}
rollout: {systems: 2, time: 20.0}
"
log() { printf '[container] %s\n' "$*"; }
refuse() { printf '[container] error: %s\n' "$*" >&2; exit 2; }
definition() { python3 tests/container_definition.py "$RECIPE" "$1"; }

# The outer half: refuses, makes the folder, and ends everything that the inner half has started, whatever happens.
# Processes and mounts belong to the inner half's own namespaces and go with its first process.
outer() {
    [ $# = 0 ] || refuse "--container takes no arguments, not '$*'"
    [ "$(id -u)" = 0 ] || refuse "mounts and a change of root need root: run as root, e.g. with sudo"
    local program place
    command -v mmdebstrap >/dev/null || command -v debootstrap >/dev/null \
        || refuse "neither mmdebstrap nor debootstrap is here: apt-get install mmdebstrap"
    for program in python3 unshare setpriv chroot apt-config; do
        command -v "$program" >/dev/null || refuse "the program $program is not here"
    done
    unshare --mount --pid --fork true 2>/dev/null || refuse "this machine does not allow root to mount (unshare fails)"
    place=$(realpath -m "${MLMD_CONTAINER_FOLDER:-/tmp}")
    [ -d "$place" ] || refuse "MLMD_CONTAINER_FOLDER=$place is no folder"
    [ "$(df --output=avail -k "$place" | tail -n 1)" -gt 5000000 ] \
        || refuse "$place has less than 5 GB free: MLMD_CONTAINER_FOLDER=/another/folder bash tests/run.sh --container"

    FOLDER=$(mktemp -d "$place/mlmd-container-XXXXXX")
    inner_half=
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Asked now, as pip's configuration lies in the caller's home.
    python3 tests/container_host.py environment > "$FOLDER/variables"
    python3 tests/container_host.py binds > "$FOLDER/binds"
    local variables=(HOME="$FOLDER/home" TMPDIR="$FOLDER/tmp" PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8)
    for program in $(cat "$FOLDER/variables"); do variables+=("$program=${!program}"); done
    env -i "${variables[@]}" setpriv --pdeathsig KILL \
        unshare --mount --propagation private --pid --mount-proc --fork --kill-child \
        bash tests/container.sh --inner "$FOLDER" < /dev/null &
    inner_half=$!
    wait "$inner_half"
}

finish() {
    [ -z "$inner_half" ] || kill -KILL "$inner_half" 2>/dev/null || true
    wait
    # The last processes may be a moment behind the first.
    rm -rf --one-file-system "$FOLDER" || { sleep 2; rm -rf --one-file-system "$FOLDER"; }
}

# run NAME COMMAND...: with its output in a file, of which the end is shown when it fails; says how long it took.
run() {
    local name=$1 start=$SECONDS status=0
    shift
    log "$name ..."
    # Not in a condition: there bash would go on after the first failure.
    "$@" > "$FOLDER/log" 2>&1 &
    wait "$!" || status=$?
    if [ "$status" != 0 ]; then
        tail -n 60 "$FOLDER/log"
        log "error: $name ended with $status after $((SECONDS - start)) s; above is the end of what it said"
        exit 1
    fi
    log "$name: $((SECONDS - start)) s"
}

# This machine's way to Debian's packages, where it is the same Debian: its own sources and how it connects.
bootstrap() {
    local suite=$1 sources file mirror
    sources=()
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [ -f "$file" ] && grep -qE "(^|[[:space:]])$suite([[:space:]]|\$)" "$file" && grep -qw main "$file"; then
            sources+=("$file")
        fi
    done
    apt-config dump | grep '^Acquire::' | grep -vE '^Acquire::(IndexTargets|Changelogs|CompressionTypes|Languages)' \
        > "$FOLDER/apt.conf" || true
    if command -v mmdebstrap >/dev/null; then
        mmdebstrap --mode=root --variant=minbase --aptopt="$FOLDER/apt.conf" "$suite" "$ROOT" "${sources[@]}"
    else
        mirror=$(cat "${sources[@]:-/dev/null}" | grep -oEm 1 'https?://[^ ]+' || true)
        debootstrap --variant=minbase "$suite" "$ROOT" ${mirror:+"$mirror"}
        [ "${#sources[@]}" = 0 ] || cp "${sources[@]}" "$ROOT/etc/apt/sources.list.d/"
    fi
}

# Which source a folder holds: the line that %post writes into the labels.
checksum() {
    echo "source.sha256 $(find setup.py hpc mlmd jobs -type f -not -path '*/__pycache__/*' -not -name site.sh \
        | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)"
}

# As Apptainer does it: links are followed, parents are made.
copy_files() {
    local source target
    definition files | while read -r source target; do
        mkdir -p "$(dirname "$ROOT$target")"
        cp -fLr "$source" "$ROOT$target"
    done
    (cd "$ROOT/opt/mlmd" && checksum) > "$FOLDER/checksum"
}

write_metadata() {
    local name
    mkdir -p "$ROOT/.singularity.d/env"
    for name in runscript test; do
        { printf '#!/bin/sh\n\n'; definition "$name"; } > "$ROOT/.singularity.d/$name"
    done
    definition environment > "$ROOT/.singularity.d/env/90-environment.sh"
    chmod 755 "$ROOT/.singularity.d/runscript" "$ROOT/.singularity.d/test"
}

# %post, in namespaces of its own: what is bound for it, this machine's package configuration, is gone with them.
post() {
    local name source target variables=()
    for name in $(cat "$FOLDER/variables"); do variables+=("$name=${!name}"); done
    for name in /etc/resolv.conf /etc/hosts; do rm -f "$ROOT$name"; touch "$ROOT$name"; done
    printf '%s\t%s\n' /etc/resolv.conf /etc/resolv.conf /etc/hosts /etc/hosts >> "$FOLDER/binds"
    while IFS=$'\t' read -r source target; do
        mkdir -p "$(dirname "$ROOT$target")"
        if [ -d "$source" ]; then mkdir -p "$ROOT$target"; else touch "$ROOT$target"; fi
    done < "$FOLDER/binds"
    cp "$FOLDER/apt.conf" "$ROOT/etc/apt/apt.conf.d/90mlmd-container"
    # The package ca-certificates writes it anew; until then it is how apt comes to the package.
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
        mkdir -p "$ROOT/etc/ssl/certs"
        cp -L /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/"
    fi
    definition post > "$ROOT/.post.script"
    # shellcheck disable=SC2016
    env -i "${variables[@]}" HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        ROOT="$ROOT" FOLDER="$FOLDER" APPTAINER_LABELS=/.build.labels \
        unshare --mount --propagation private bash -euc '
            for folder in /dev /proc /sys; do mount --rbind "$folder" "$ROOT$folder"; done
            while IFS=$(printf "\t") read -r source target; do
                mount --bind -o ro "$source" "$ROOT$target"
            done < "$FOLDER/binds"
            exec chroot "$ROOT" /bin/sh -ex /.post.script'
    # Nothing of this machine stays: what is tested below finds neither its packages nor its certificates.
    while IFS=$'\t' read -r source target; do
        if [ -d "$ROOT$target" ]; then rmdir "$ROOT$target"; else rm "$ROOT$target"; fi
    done < "$FOLDER/binds"
    rm "$ROOT/.post.script" "$ROOT/etc/apt/apt.conf.d/90mlmd-container"
    env -u TMPDIR chroot "$ROOT" update-ca-certificates --fresh
    rm -rf "${ROOT:?}"/tmp/*
}

# An image is run by whoever starts it.
ordinary() { CONTAINER_USER=65534:65534 apptainer exec --bind "$TMPDIR" "$ROOT" "$@"; }

# jobs/quickstart.sh without its set-up: the stages of the main job, with ranks by the image's own mpirun.
main_job() {
    # shellcheck disable=SC2016
    ordinary bash -euc '
        checkout=$PWD
        cd /opt/mlmd
        source jobs/common.sh
        cd "$checkout"
        set -x
        mlmd generate run.yaml
        $(mlmd_mpirun 2) mlmd train run.yaml
        mlmd rollout run.yaml
        mlmd report run.yaml
        mlmd status run.yaml'
    [ -s runs/inside/report.html ]
}

# jobs/train_lstm.slurm as a batch job of a Slurm of two nodes, its ranks started by srun from outside: the same
# weights as from inside, bit for bit. In the shell that tests/slurm/cluster.py opens; 3: this machine has no PMIx.
hybrid_job() {
    cd "$FOLDER/checkout"
    srun --mpi=pmix --ntasks=1 true || exit 3
    export MLMD_CONTAINER=$ROOT RUN=run.yaml MLMD_ARGS="--set out=runs/outside"
    sbatch --wait --nodes=2 --ntasks-per-node=1 --output=logs/hybrid.out jobs/train_lstm.slurm \
        || { cat logs/hybrid.out; exit 1; }
    cat logs/hybrid.out
    cmp runs/inside/models/harmonic-100/weights.npz runs/outside/models/harmonic-100/weights.npz
}

hybrid() {
    local status=0
    printf '#!/bin/sh\nexec bash "%s" --hybrid "%s"\n' "$TOP/tests/container.sh" "$FOLDER" > "$FOLDER/bin/hybrid"
    chmod 755 "$FOLDER/bin/hybrid"
    SHELL=$FOLDER/bin/hybrid python3 "$TOP/tests/slurm/cluster.py" || status=$?
    echo "$status" > "$FOLDER/hybrid"
    # 2 and 3: there is no Slurm, or none that knows PMIx.
    [ "$status" = 0 ] || [ "$status" = 2 ] || [ "$status" = 3 ]
}

inner() {
    local base suite hybrid
    base=$(definition From)
    suite=$(sed -nE 's/^debian:([a-z]+)-slim$/\1/p' <<< "$base")
    [ -n "$suite" ] || refuse "the base of $RECIPE is $base, and only a debian:NAME-slim can be made here"
    chmod 755 "$FOLDER"
    mkdir -p "$FOLDER/home" "$FOLDER/bin" "$FOLDER/tmp" "$FOLDER/checkout/logs"
    chmod 1777 "$FOLDER/tmp"
    run "a clean Debian $suite" bootstrap "$suite"
    copy_files
    write_metadata
    run "%post" post
    run "the label of its source" cmp "$ROOT/.build.labels" "$FOLDER/checksum"
    log "the root file system: $(du -sh "$ROOT" | cut -f 1)"

    cp tests/container_exec.sh "$FOLDER/bin/apptainer"
    chmod 755 "$FOLDER/bin/apptainer"
    cp -r jobs "$FOLDER/checkout/jobs"
    echo : > "$FOLDER/checkout/jobs/site.sh"
    echo "$RUN_FILE" > "$FOLDER/checkout/run.yaml"
    chown -R 65534:65534 "$FOLDER/checkout" "$FOLDER/home"
    cd "$FOLDER/checkout"
    run "%test" ordinary /.singularity.d/test
    run "the main job" main_job
    run "the job script with ranks from outside" hybrid
    hybrid=$(cat "$FOLDER/hybrid")

    log "proven: %files, %post and %test of $RECIPE in a clean Debian $suite, and the main job in it, read-only and as" \
        "an ordinary user"
    [ "$hybrid" != 0 ] || log "proven: jobs/train_lstm.slurm with MLMD_CONTAINER under Slurm, srun --mpi=pmix outside"
    [ "$hybrid" = 0 ] || log "not proven: ranks started from outside, as there is no Slurm with PMIx here"
    log "not proven: Apptainer's own reading of the recipe, the image file, its binds and namespaces, mlmd-gpu.def"
}

case ${1:-} in
    --inner) FOLDER=$2 ROOT=$2/root PATH=$2/bin:$PATH; inner ;;
    --hybrid) FOLDER=$2 ROOT=$2/root PATH=$2/bin:$PATH; hybrid_job ;;
    *) outer "$@" ;;
esac
