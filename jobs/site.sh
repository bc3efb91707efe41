# What this site needs to be told, and the only file to edit for it. Sourced by jobs/setup.sh and by every
# jobs/*.slurm, before anything else. All of it is optional.
#
# module purge
# module load gcc/12 openmpi/4.1 python/3.11
#
# Read by sbatch when a job is submitted through `mlmd submit` (which sources this file first):
# export SBATCH_ACCOUNT=my-project
# export SBATCH_PARTITION=batch
#
# How ranks are started inside a job (default: srun --mpi=pmix where Slurm has it, mpirun otherwise):
# export MLMD_LAUNCH="srun --mpi=pmi2"
#
# The network interface between nodes, for Dask's workers (default: the one of the host name):
# export MLMD_INTERFACE=ib0
#
# Run everything inside a container image instead of .venv:
# export MLMD_CONTAINER=$HOME/mlmd-cpu.sif
:
