# Shared by the quickstart, the tests and every jobs/*.slurm: environment, threads, launcher, signals, requeue.
# Source it from the top of the checkout.

source jobs/site.sh
MLMD_VENV=$(realpath -m "${MLMD_VENV:-.venv}")
export PATH=$MLMD_VENV/bin:$PATH
export PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

# mlmd_threads N: every library that starts threads starts N of them.
mlmd_threads() {
    export OMP_NUM_THREADS=$1 NUMBA_NUM_THREADS=$1 OPENBLAS_NUM_THREADS=$1
    export TF_NUM_INTRAOP_THREADS=$1 TF_NUM_INTEROP_THREADS=1
}

# mlmd_mpirun N: prints the command that starts N ranks on this machine or in this allocation.
mlmd_mpirun() {
    # Root in a container or a test machine is refused by Open MPI unless told twice.
    local root=
    [ "$(id -u)" != 0 ] || root="env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
    if mpirun --version 2>/dev/null | grep -qi "open mpi\|open-mpi"; then
        # Unbound: two jobs side by side would otherwise share the first cores.
        echo "$root mpirun -np $1 --bind-to none --oversubscribe"
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

# mlmd_inside: prints the container command where the site names an image.
mlmd_inside() {
    [ -z "${MLMD_CONTAINER:-}" ] || echo "apptainer exec ${MLMD_GPU:+--nv} $MLMD_CONTAINER"
}

# mlmd_run COMMAND...: runs it in the background, hands signals on, and sends this job back to the queue when the
# command ends with 85, which says: stopped at a checkpoint, unfinished. Returns for good ends, exits otherwise.
# In the foreground a command would hold the traps back until it ends.
mlmd_run() {
    local child= status=0 asked= told=
    trap 'asked=1; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null' USR1 USR2
    trap 'told=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
    "$@" &
    child=$!
    # A signal ends `wait` early; the command's own status is what it says once the command is gone.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child" || true
    done
    wait "$child" || status=$?
    trap - USR1 USR2 TERM
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

mlmd_threads "${MLMD_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
# srun since 22.05 does not take this over from the batch script by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
