"""The section `dataset` of runs with published end states, between which paths are sought."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, Strict

from mlmd.config.dataset_base import Dataset, Load, Windows


class Problem(NamedTuple):
    """Two states of `atoms` in `dim` dimensions and the published `time` between them; whether velocities are given."""

    atoms: int
    dim: int
    time: float
    velocities: bool


PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        "lj500": Problem(500, 3, 0.5, velocities=True),
        "lj38": Problem(38, 3, 1.0, velocities=False),
        "cluster7": Problem(7, 2, 1.0, velocities=False),
    }
)


class EndStates(Dataset):
    """Published end states: Wang et al., principle of least action, main text and supporting information."""

    stages: ClassVar[tuple[str, ...]] = ("generate", "act", "report")
    wanted: ClassVar[str] = "action"
    # Each is there once.
    systems: ClassVar[int] = 1

    family: Literal["end_states"] = Field("end_states", description="dataset family")
    names: Annotated[tuple[Literal[tuple(PROBLEMS)], ...], Strict(False), Field(min_length=1)] = Field(
        tuple(PROBLEMS), description="lj500: a liquid; lj38: icosahedron to octahedron; cluster7: in two dimensions"
    )
    timestep: float = Field(1.25e-4, gt=0, description="Verlet timestep Δ of the reference (reduced time)")
    stride: int = Field(160, gt=0, description="a frame of the reference is kept every so many timesteps")

    @property
    def atoms(self) -> tuple[int, ...]:
        """Numbers of atoms, which tell the problems apart."""
        return tuple(PROBLEMS[name].atoms for name in self.names)

    def windows_of(self, atoms: int) -> Windows:
        """The published time; another one where velocities are not given."""
        (name,) = (name for name in self.names if PROBLEMS[name].atoms == atoms)
        problem = PROBLEMS[name]
        return Windows(name, name, problem.time, trajectory=problem.velocities, fixed=problem.velocities)

    @property
    def loads(self) -> tuple[Load, ...]:
        """Both states, and frames of the reference where there is one."""
        largest = max((PROBLEMS[name] for name in self.names), key=lambda problem: problem.atoms)
        frames = 2 + (largest.time / (self.timestep * self.stride) + 1 if largest.velocities else 0)
        what = f"problem of {largest.atoms} atoms and {frames:,.0f} frames"
        return (Load(1, what, (2 * largest.dim * largest.atoms + 1) * frames),)
