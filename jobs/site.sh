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
# A run file may name files and folders below the one a command is typed in, and no others. Where output goes to another
# file system, such as scratch, let run files name any (and in the shell in which commands are typed):
# export MLMD_PATHS=anywhere
#
# Run everything inside a container image instead of .venv; the image is built from containers/*.def. Load apptainer
# above if it is a module. Outside, srun must have PMIx, or mpirun be of the same Open MPI 4. Of this machine's folders
# a job sees the checkout, those of RUN, SCRATCH and TMPDIR, the home and /tmp; others are named with commas between:
# export MLMD_CONTAINER=$HOME/mlmd-cpu.sif
# export MLMD_GPU=1                             with mlmd-gpu.sif
# export APPTAINER_BIND=/data,/projects
:
