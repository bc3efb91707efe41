# Shared by the quickstart, the tests and every jobs/*.slurm: environment, threads, launcher, signals, requeue.
# Source it from the top of the checkout.

source jobs/site.sh
MLMD_VENV=$(realpath -m "${MLMD_VENV:-.venv}")
export PATH=$MLMD_VENV/bin:$PATH
MLMD_TOP=$PWD
# A job may leave the top before it needs the image.
[ -z "${MLMD_CONTAINER:-}" ] || export MLMD_CONTAINER=$(realpath -ms "$MLMD_CONTAINER")
export PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

# mlmd_threads N: every library that starts threads starts N of them.
mlmd_threads() {
    export OMP_NUM_THREADS=$1 NUMBA_NUM_THREADS=$1 OPENBLAS_NUM_THREADS=$1
    export TF_NUM_INTRAOP_THREADS=$1 TF_NUM_INTEROP_THREADS=1
}

# mlmd_mpirun N: prints the command that starts N ranks on this machine or in this allocation.
mlmd_mpirun() {
    local words=env
    # Root in a container or a test machine is refused by Open MPI unless told twice.
    [ "$(id -u)" != 0 ] || words+=" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
    # Ranks on one machine need no network; each would listen to everybody who is logged in here.
    [ -n "${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}${PE_HOSTFILE:-}" ] || words+=" OMPI_MCA_btl=${OMPI_MCA_btl:-^tcp}"
    if mpirun --version 2>/dev/null | grep -qi "open mpi\|open-mpi"; then
        # Unbound: two jobs side by side would otherwise share the first cores.
        echo "$words mpirun -np $1 --bind-to none --oversubscribe"
    else
        echo "mpirun -np $1"
    fi
}

# mlmd_launcher: prints the command that starts this job's ranks.
mlmd_launcher() {
    if [ -n "${MLMD_LAUNCH:-}" ]; then
        echo "$MLMD_LAUNCH"
    # Tried, not looked up: `srun --mpi=list` also names pmix where its library is missing.
    elif [ -n "${SLURM_JOB_ID:-}" ] && srun --mpi=pmix --nodes=1 --ntasks=1 true 2>/dev/null; then
        echo "srun --mpi=pmix"
    else
        mlmd_mpirun "${SLURM_NTASKS:-${MLMD_RANKS:-1}}"
    fi
}

# Whether the site names an image and this is not it already.
mlmd_contained() { [ -n "${MLMD_CONTAINER:-}" ] && [ -z "${APPTAINER_CONTAINER:-}" ]; }

# mlmd_inside: prints the words that run a command in the image that the site names; nothing where it names none.
mlmd_inside() {
    mlmd_contained || return 0
    echo "apptainer exec ${MLMD_GPU:+--nv} --bind $(mlmd_folders | paste -sd ,) $MLMD_CONTAINER"
}

# mlmd_folders: prints the run's folders, by the name they are called and by their own. Apptainer itself shows a
# container no more than the home, the current folder and /tmp, and what the site adds in APPTAINER_BIND.
mlmd_folders() {
    local folder temporary=${TMPDIR:-}
    # Below /tmp it may be this node's alone, and what is not there cannot be bound.
    [[ $temporary != /tmp/* ]] || temporary=
    for folder in "$MLMD_TOP" "$PWD" "$(dirname "${RUN:-.}")" "${CONFIGS:-}" "${SCRATCH:-}" "$temporary"; do
        [ ! -d "$folder" ] || { realpath -s "$folder"; realpath "$folder"; }
    done | awk '!seen[$0]++'
}

# mlmd_container: refuses, in one sentence, an image that no command could be run in. Called before a job is queued
# and before it starts anything.
mlmd_container() {
    local fault image=cpu
    mlmd_contained || return 0
    [ -z "${MLMD_GPU:-}" ] || image=gpu
    if [ ! -e "$MLMD_CONTAINER" ]; then
        fault="there is no such file; build it: apptainer build $MLMD_CONTAINER containers/mlmd-$image.def"
    elif ! command -v apptainer >/dev/null; then
        fault="apptainer is not in PATH; load it in jobs/site.sh, or leave MLMD_CONTAINER out to run without"
    elif { mlmd_folders; echo "$MLMD_CONTAINER"; } | grep -q '[[:blank:],:]'; then
        fault="blanks, commas and colons in the names of the image and of the run's folders cannot be said to apptainer"
    else
        return 0
    fi
    echo "mlmd: MLMD_CONTAINER=$MLMD_CONTAINER: $fault" >&2
    return 2
}

# mlmd_run COMMAND...: runs it in the background, hands signals on, and sends this job back to the queue when the
# command ends with 85, which says: stopped at a checkpoint, unfinished. Returns for good ends, exits otherwise.
# In the foreground a command would hold the traps back until it ends.
mlmd_run() {
    local child= status=0 asked=${mlmd_asked:-} told= bound=
    mlmd_container || exit
    # Where this shell is killed and nobody ends its job, the command stops as well, at a checkpoint: the same job
    # started again would be refused beside it.
    ! setpriv --pdeathsig TERM true 2>/dev/null || bound="setpriv --pdeathsig TERM"
    trap 'asked=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null || true' USR1 USR2
    trap 'told=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM
    $bound "$@" &
    child=$!
    [ -z "$asked" ] || kill -USR1 "$child" 2>/dev/null || true
    # A signal ends `wait` early; the command's own status is what it says once the command is gone.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child" || true
    done
    wait "$child" || status=$?
    trap - TERM
    mlmd_listen
    # 128+10: the request came before the command could listen, so there is nothing to lose.
    if [ "$status" = 138 ] && [ -n "$asked" ]; then status=85; fi
    [ "$status" != 0 ] || return 0
    # TERM comes from scancel, or from a preemption after which Slurm requeues the job itself.
    if [ "$status" = 85 ] && [ -z "$told" ] && [ -n "${SLURM_JOB_ID:-}" ]; then mlmd_requeue; fi
    [ "$status" != 85 ] || echo "stopped at a checkpoint; the same command goes on from there" >&2
    exit "$status"
}

# An array task goes back under its own name: the bare array id would requeue every task.
mlmd_requeue() {
    local job=$SLURM_JOB_ID
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
    echo "requeueing $job (start $((${SLURM_RESTART_COUNT:-0} + 1)) ended at a checkpoint)"
    if scontrol requeue "$job"; then exit 0; fi
}

# mlmd_listen: a request of Slurm's that comes between two commands waits for the next one; it would end the script.
mlmd_listen() {
    mlmd_asked=
    if [ -n "${SLURM_JOB_ID:-}" ]; then trap 'mlmd_asked=1' USR1 USR2; else trap - USR1 USR2; fi
}

mlmd_listen
mlmd_threads "${MLMD_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
# srun since 22.05 does not take this over from the batch script by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
