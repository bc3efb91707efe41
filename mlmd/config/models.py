"""The section `model` of a run file: one class for each kind of operator, potential, correction or force, by `name`.

Besides its keys each says which dataset families it is for, how many states it sees (`window`), whether it predicts the
change from the last of them (`residual`), and over how many large steps on its own output it is trained (`unroll`).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, Strict

from mlmd.config.base import ConfigError, Counts, Number, Section

if TYPE_CHECKING:
    from mlmd.config.datasets import Spins

Precision = Literal["float32", "float64"]
LearnedStride = Annotated[int | None, Field(gt=0)]
Unroll = Annotated[int, Field(gt=0, le=64)]


class Model(Section):
    """What the operators have in common."""

    families: ClassVar[tuple[str, ...]] = ("newton1d",)

    def learned_at(self, stride: int) -> int:
        """The stride of the windows that an operator of `stride` is trained on."""
        return stride


class StateMap(Model):
    """A map of states: it sees one and predicts its change."""

    window: ClassVar[int] = 1
    residual: ClassVar[bool] = True


class LstmOperator(Model):
    """Two LSTM layers and a dense one: Kadupitiya et al. (2022), equation 4."""

    families: ClassVar[tuple[str, ...]] = ("newton1d", "lj_few_body")

    name: Literal["lstm_operator"] = Field("lstm_operator", description="kind of operator")
    units: int = Field(32, gt=0, description="units of each of the two LSTM layers")
    window: int = Field(5, gt=1, description="states that the operator sees, S_R")
    dropout: float = Field(0.15, ge=0, lt=1, description="dropout rate between the layers, in training")
    residual: bool = Field(True, description="predict the change from the last state instead of the state")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    noise: float = Field(0.0, ge=0, description="normal noise on the window in training, in standard deviations")
    dtype: Precision = Field("float32", description="precision of weights and arithmetic")


class Blocks(StateMap):
    """A map whose large step is made of equal blocks, which are learned at one stride and repeated at larger ones."""

    learned_stride: LearnedStride = Field(
        None, description="stride at which blocks are learned; operators of larger ones repeat them; none: their own"
    )

    def learned_at(self, stride: int) -> int:
        """See Model."""
        return stride if self.learned_stride is None else min(stride, self.learned_stride)


class ShearMap(Blocks):
    """A symplectic map of one particle on a line: drifts and kicks in turn, with learned coefficients."""

    name: Literal["shear_map"] = Field("shear_map", description="kind of operator")
    substep: int = Field(25, gt=0, description="longest stretch, in timesteps, that one block makes where √(m/k) is 1")
    stages: int = Field(6, gt=0, le=16, description="kicks in a block")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Literal["float64"] = Field("float64", description="precision of weights and arithmetic")


class ActionAngle(StateMap):
    """Angle and energy of one particle on a line: a large step is a shift of the angle."""

    name: Literal["action_angle"] = Field("action_angle", description="kind of operator")
    nodes: int = Field(64, ge=8, description="nodes of the coarse sum over the orbit that the angle starts from")
    units: int = Field(16, gt=0, description="units of the network that corrects it")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Precision = Field("float64", description="precision of weights and arithmetic")


class PairShears(Blocks):
    """A symplectic map of many Lennard-Jones atoms: shears with learned coefficients and a learned pair term."""

    families: ClassVar[tuple[str, ...]] = ("lj_few_body",)

    name: Literal["pair_shears"] = Field("pair_shears", description="kind of operator")
    substep: int = Field(25, gt=0, description="longest stretch, in timesteps, that one block of shears makes")
    stages: int = Field(3, gt=0, le=32, description="kicks in a block")
    correction: bool = Field(True, description="learn a pair term beside the coefficients")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Precision = Field("float64", description="precision of weights and arithmetic")


Radial = Annotated[tuple[Annotated[tuple[float, float], Strict(False)], ...], Strict(False)]
Angular = Annotated[tuple[Annotated[tuple[float, float, float], Strict(False)], ...], Strict(False)]


class PotentialModel(Model):
    """A potential of atomic networks; lengths in Å, for Lennard-Jones atoms in σ."""

    families: ClassVar[tuple[str, ...]] = ("configurations",)

    cutoff: Number | None = Field(None, description="how far an atom sees; none: the material's own")
    angular_cutoff: Number | None = Field(
        None, description="how far an atom sees the neighbours of a triplet; none: the material's own"
    )
    hidden: Counts = Field((30, 30), description="units of the hidden layers of each species' network")
    dtype: Precision = Field("float32", description="precision of training; the potential itself has float64")

    def check(self, path: Path) -> None:
        """Raises ConfigError, naming `path`, for keys that do not fit each other."""


class Hdnnp(PotentialModel):
    """Symmetry functions and a network a species: Behler and Parrinello (2007)."""

    name: Literal["hdnnp"] = Field("hdnnp", description="kind of potential")
    radial: int = Field(14, ge=0, description="G2 of each species, where no functions are listed")
    angular: int = Field(32, ge=0, description="G5 of each pair of species, where no functions are listed")
    closed: bool = Field(False, description="G4 instead, whose triplets have all three atoms near each other")
    nearest: Number | None = Field(
        None, description="centre of the first G2; none: before the material's shortest distance"
    )
    g1: bool = Field(False, description="whether there is a G1")
    g2: Radial = Field((), description="[η, R_s] of each G2")
    g3: Annotated[tuple[float, ...], Strict(False)] = Field((), description="κ of each G3")
    g4: Angular = Field((), description="[η, ζ, λ] of each G4")
    g5: Angular = Field((), description="[η, ζ, λ] of each G5")

    @property
    def listed(self) -> bool:
        """Whether functions are listed one by one."""
        return bool(self.g1 or self.g2 or self.g3 or self.g4 or self.g5)

    def check(self, path: Path) -> None:
        """See PotentialModel."""
        if not self.listed and self.radial + self.angular == 0:
            raise ConfigError(path, "model.radial", "without radial and angular functions an atom sees nothing")


class Fingerprints(PotentialModel):
    """Fingerprints that learn with the network: Mattioli, Sciortino and Russo (2023)."""

    name: Literal["fingerprints"] = Field("fingerprints", description="kind of potential")
    two_body: int = Field(5, gt=0, description="fingerprints of pairs, for each species of neighbour")
    three_body: int = Field(5, gt=0, description="fingerprints of triplets, for each pair of species")
    hidden: Counts = Field((25, 25), description="units of the hidden layers of each species' network")


class SpinModel(Model):
    """What corrects a large timestep of spins; `baselines` are the coarse steps that it can correct."""

    families: ClassVar[tuple[str, ...]] = ("spins",)
    baselines: ClassVar[tuple[str, ...]] = ("st2_exact", "frozen_field")

    def check(self, path: Path, data: "Spins") -> None:
        """Raises ConfigError, naming `path`, for keys that do not fit each other or the dataset."""


class Unet(SpinModel):
    """A 3D U-Net that adds the residue of a step: Park (2022), figures 4.3 and 4.4."""

    unroll: ClassVar[int] = 1

    name: Literal["unet"] = Field("unet", description="kind of correction")
    channels: Counts = Field((32, 64), description="channels at each level, of which every one halves the lattice")
    dense: bool = Field(False, description="dense layers at the bottom; such a network is for one lattice size alone")
    normalization: Literal["range", "standard"] = Field(
        "range", description="residues as numbers in [0, 1] behind a sigmoid, or in standard deviations"
    )
    deviations: Number = Field(
        11.0, description="standard deviations that reach 0 and 1 (range); published: 11 for L = 4, 13 for L = 8"
    )
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="activation of the hidden layers")
    dtype: Literal["float32"] = Field("float32", description="precision of weights and arithmetic")

    def check(self, path: Path, data: "Spins") -> None:
        """See SpinModel."""
        halvings = len(self.channels) - 1
        if data.size % 2**halvings:
            told = f"{len(self.channels)} levels halve an edge {halvings} times, and dataset.size is {data.size}"
            told += f"; at most {_halvings(data.size) + 1} fit"
            raise ConfigError(path, "model.channels", told)


def _halvings(size: int) -> int:
    """How often a number can be halved."""
    return (size & -size).bit_length() - 1


class SublatticeTurns(SpinModel):
    """Turns of the sublattices about their own fields, by learned angles: |S| and energy are kept at any weights."""

    baselines: ClassVar[tuple[str, ...]] = ("st2_exact",)

    name: Literal["sublattice_turns"] = Field("sublattice_turns", description="kind of correction")
    stages: int = Field(4, gt=0, le=8, description="turns of each sublattice in a step, those at its ends as one")
    local: bool = Field(True, description="angles depend on a spin's field and energy; no: one factor for all spins")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Literal["float64"] = Field("float64", description="precision of weights and arithmetic")


class ForceModel(Model):
    """Effective forces in the kicks of a large step of atoms in two dimensions: Park (2022), chapter 5."""

    families: ClassVar[tuple[str, ...]] = ("lj2d",)

    stages: int = Field(
        1, gt=0, le=16, description="drifts in a large step, a kick before and after each; published: 1"
    )
    prior: Literal["none", "lennard_jones"] = Field(
        "none", description="what the learned forces are added to: nothing (published), or the atoms' own forces"
    )
    mirrored: bool = Field(False, description="the last kicks are the first ones seen backwards in time; published: no")
    unroll: Unroll = Field(1, description="large steps chained in training, χ")
    dtype: Precision = Field("float64", description="precision of training; rollouts have float64")

    def check(self, path: Path) -> None:
        """Raises ConfigError, naming `path`, for keys that do not fit each other."""
        if self.stages > 1 and self.prior == "none":
            told = "none goes with one stage; more of them make a step of the atoms' own forces, lennard_jones"
            raise ConfigError(path, "model.prior", told)


Units = Annotated[int, Field(ge=0, le=256)]


class PairForces(ForceModel):
    """A network of each pair's relative position and momentum: equations 5.4 to 5.6."""

    name: Literal["pw"] = Field("pw", description="kind of effective force")
    hidden: Units = Field(64, description="hidden units of each pair network; 0: pair terms alone, with a prior")
    momentum: bool = Field(True, description="pair networks see relative momenta, as published")

    def check(self, path: Path) -> None:
        """See ForceModel."""
        super().check(path)
        if self.hidden == 0 and self.prior == "none":
            raise ConfigError(path, "model.hidden", "without units and without a prior there is no force; use 64")


class ManyBodyForces(ForceModel):
    """A network of the forces and momenta on six points around each atom: equations 5.7 to 5.12."""

    name: Literal["mb"] = Field("mb", description="kind of effective force")
    units: Annotated[int, Field(gt=0, le=256)] = Field(64, description="hidden units of each many-body network")
    grid: Number = Field(0.5, description="distance of the six points from their atom (σ); unpublished")


class CombinedForces(PairForces):
    """Both, weighted by learned sigmoids: equations 5.13 and 5.14."""

    name: Literal["pw_mb"] = Field("pw_mb", description="kind of effective force")
    units: Annotated[int, Field(gt=0, le=256)] = Field(64, description="hidden units of each many-body network")
    grid: Number = Field(0.5, description="distance of the six points from their atom (σ); unpublished")


class PairEnergies(ForceModel):
    """Gradients of a learned pair energy in each kick: symplectic, reversible, momentum kept to rounding."""

    name: Literal["pw_energy"] = Field("pw_energy", description="kind of effective force")
    stages: int = Field(7, gt=0, le=16, description="drifts in a large step, a kick before and after each")
    prior: Literal["lennard_jones"] = Field("lennard_jones", description="what the learned pair energies are added to")
    mirrored: Literal[True] = Field(True, description="the last kicks are the first ones seen backwards in time")


MODELS: Mapping[str, type[Model]] = MappingProxyType(
    {
        "lstm_operator": LstmOperator,
        "shear_map": ShearMap,
        "action_angle": ActionAngle,
        "pair_shears": PairShears,
        "hdnnp": Hdnnp,
        "fingerprints": Fingerprints,
        "unet": Unet,
        "sublattice_turns": SublatticeTurns,
        "pw": PairForces,
        "mb": ManyBodyForces,
        "pw_mb": CombinedForces,
        "pw_energy": PairEnergies,
    }
)
AnyModel = Annotated[
    LstmOperator
    | ShearMap
    | ActionAngle
    | PairShears
    | Hdnnp
    | Fingerprints
    | Unet
    | SublatticeTurns
    | PairForces
    | ManyBodyForces
    | CombinedForces
    | PairEnergies,
    Field(discriminator="name"),
]
