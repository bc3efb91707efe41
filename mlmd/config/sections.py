"""The sections of a run file besides `dataset`."""

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


class Model(Section):
    """The operator: window of states → state one large step later."""

    name: Literal["lstm_operator"] = Field("lstm_operator", description="model family")
    units: int = Field(32, gt=0, description="units of each of the two LSTM layers")
    window: int = Field(5, gt=1, description="states that the operator sees, S_R")
    dropout: float = Field(0.15, ge=0, lt=1, description="dropout rate between the layers, in training")
    residual: bool = Field(True, description="predict the change from the last state instead of the state")
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of weights and arithmetic")


class Training(Section):
    """One operator is trained per system and stride."""

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


class Rollout(Section):
    """Test systems evolved by each operator, one step at a time and in closed loop."""

    systems: Count | None = Field(None, description="test systems, the published one first; none: dataset.test_systems")
    time: Number | None = Field(None, description="length of the rollout (reduced time); none: dataset.test_time")
    directions: Annotated[tuple[Literal["forward", "backward"], ...], Strict(False), Field(min_length=1)] = Field(
        ("forward", "backward"), description="directions of time"
    )
    block: int = Field(20, gt=0, description="test systems in one work item")
    checkpoint_seconds: float = Field(30.0, gt=0, description="a long item saves its state this often")
    tasks: int = Field(4, gt=0, description="job array tasks that `mlmd submit` asks for")
