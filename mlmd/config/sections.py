"""The sections of a run file besides `dataset` and `model`."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from mlmd.config.base import Count, Counts, Names, Number, Section


class Cluster(Section):
    """Where Dask's workers run."""

    kind: Literal["local", "slurm", "mpi"] = Field(
        "local", description="processes here; Slurm jobs (replaced when lost); ranks of one MPI job (dies whole)"
    )
    workers: int = Field(2, gt=0, description="Dask workers, one core each")
    memory: str = Field("1GB", description="memory of one worker", pattern=r"^\d+ ?(MB|GB|MiB|GiB)$")
    walltime_minutes: int = Field(60, ge=4, description="time limit of one Slurm worker job (minutes)")
    interface: str | None = Field(None, description="network interface of the workers (slurm, mpi), such as ib0")
    options: Names = Field((), description="more #SBATCH options of the worker jobs, such as --account=abc")


class Training(Section):
    """One operator is trained per system and stride."""

    systems: Names = Field((), description="systems of the dataset that operators are trained for; none: all")
    strides: Counts = Field((100,), description="large timesteps Δ_R in units of the timestep")
    backend: Literal["horovod", "mpi"] = Field("horovod", description="what averages gradients between ranks")
    epochs: int = Field(50, gt=0, description="epochs")
    steps_per_epoch: Count | None = Field(
        None, description="optimizer steps in an epoch; none: every window of the training set once"
    )
    validation_steps: int = Field(20, gt=0, description="validation batches after each epoch, on each rank")
    batch: int = Field(256, gt=0, description="windows in a batch, on each rank")
    learning_rate: float = Field(0.0005, gt=0, description="Adam's learning rate on one rank")
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the epochs")
    scaling: Literal["none", "sqrt", "linear"] = Field("none", description="learning rate against number of ranks")
    warmup_epochs: int = Field(0, ge=0, description="epochs over which the learning rate grows to its value")
    checkpoint_seconds: float = Field(60.0, gt=0, description="a checkpoint at least this often, and at each epoch")
    shards_in_memory: int = Field(16, gt=0, description="shards that a rank holds and shuffles over at a time")
    timeout_seconds: float = Field(600.0, gt=0, description="longest wait for other ranks")
    despite: Names = Field((), description="findings of `mlmd train --check` to train in spite of, such as rank")


class Guard(Section):
    """Limits of a closed loop: where one is passed the reference takes over for a while."""

    energy: Number | None = Field(1e-3, description="largest energy deviation |E - E_0|/|E_0|")
    distance: Number | None = Field(None, description="smallest distance of two atoms (σ); none: not watched")
    disagreement: Number | None = Field(
        None, description="largest difference of a committee's predictions, in standard deviations; none: not watched"
    )
    committee: Names = Field((), description="folders of other runs whose operators of the same kind are asked too")
    check_every: int = Field(200, gt=0, description="large steps between two looks")
    project: bool = Field(False, description="rescale velocities to the initial energy where the reference takes over")


class Rollout(Section):
    """Test systems evolved by each operator, one step at a time and in closed loop."""

    systems: Count | None = Field(None, description="test systems, the published one first; none: dataset.test_systems")
    validation_systems: int = Field(0, ge=0, description="validation systems rolled out too, to choose operators by")
    time: Number | None = Field(None, description="length of the rollout (reduced time); none: dataset.test_time")
    directions: Annotated[tuple[Literal["forward", "backward"], ...], Strict(False), Field(min_length=1)] = Field(
        ("forward", "backward"), description="directions of time"
    )
    block: int = Field(20, gt=0, description="test systems in one work item")
    hold_energy: int = Field(
        0, ge=0, description="velocities are rescaled to the initial energy every so many large steps; 0: never"
    )
    guard: Guard | None = Field(None, description="limits of the closed loop; none: it is not watched")
    checkpoint_seconds: float = Field(30.0, gt=0, description="a long item saves its state this often")
    tasks: int = Field(4, gt=0, description="job array tasks that `mlmd submit` asks for")
