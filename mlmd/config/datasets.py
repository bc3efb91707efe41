"""The section `dataset` of a run file: one class for each family, told apart by the key `family`.

Besides its keys each says how much memory its work items take and which stages its runs go through. Defaults are the
published settings, apart from lengths of test trajectories.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, Strict

from mlmd.config.base import CountOrCounts, Counts, Number, Numbers, Section
from mlmd.config.dataset_base import Dataset, Load, Windows
from mlmd.config.end_states import EndStates

SYSTEMS_1D = ("harmonic", "double_well", "lennard_jones", "rugged")
STAGES = ("generate", "train", "rollout", "report")

System1D = Literal[SYSTEMS_1D]
TrainFraction = Annotated[float, Field(gt=0, lt=1)]


class Newton1d(Dataset):
    """One particle on a line in four potentials: Kadupitiya et al. (2022), appendix."""

    stages: ClassVar[tuple[str, ...]] = STAGES

    family: Literal["newton1d"] = Field("newton1d", description="dataset family")
    systems: Annotated[tuple[System1D, ...], Strict(False), Field(min_length=1)] = Field(
        SYSTEMS_1D, description="which potentials"
    )
    timestep: float = Field(0.001, gt=0, description="Verlet timestep Δ (reduced time)")
    time: float = Field(200.0, gt=0, description="length of a training trajectory (reduced time)")
    stride: int = Field(100, gt=0, description="a frame is kept every so many timesteps")
    thin: int = Field(1, gt=0, description="take every n-th system of the published sweep; 1 is the published set")
    train_fraction: TrainFraction = Field(0.8, description="share of the systems trained on; the rest validates")
    test_systems: int = Field(100, gt=0, description="systems of the test set, the published one first")
    test_time: float = Field(1000.0, gt=0, description="length of a test trajectory (reduced time)")
    block: int = Field(32, gt=0, description="systems in one work item, which is one shard of the store")

    @property
    def operator_systems(self) -> tuple[str, ...]:
        """The potentials."""
        return self.systems

    def stream_of(self, system: str) -> int:
        """By the registry."""
        return SYSTEMS_1D.index(system)

    @property
    def loads(self) -> tuple[Load, ...]:
        """Position, velocity and energy."""
        frames = max(self.time, self.test_time) / (self.timestep * self.stride)
        return (Load(self.block, f"systems of {frames:,.0f} frames", 3 * frames),)


class LjFewBody(Dataset):
    """A few Lennard-Jones atoms in a periodic box: Kadupitiya et al. (2022), section 3.2."""

    stages: ClassVar[tuple[str, ...]] = STAGES

    family: Literal["lj_few_body"] = Field("lj_few_body", description="dataset family")
    atoms: Counts = Field((3, 8, 16), description="numbers of atoms; each is a set of systems of its own")
    box: float = Field(6.0, ge=5.0, description="edge of the cubic box (σ), at least twice the cutoff of 2.5")
    epsilon: float = Field(1.0, gt=0, description="ε of the systems for training and validation")
    systems: int = Field(5000, gt=0, description="systems for training and validation, of each number of atoms")
    spacing: float = Field(0.3508, gt=0, description="step by which atoms are placed next to the first one (σ)")
    smallest_distance: float = Field(1.0, gt=0, description="atoms nearer to each other at the start overlap (σ)")
    temperature: float = Field(
        0.0, ge=0, description="temperature of the first velocities of systems for training and validation; 0: at rest"
    )
    timestep: float = Field(0.001, gt=0, description="Verlet timestep Δ (reduced time)")
    time: float = Field(2000.0, gt=0, description="length of a training trajectory (reduced time)")
    stride: int = Field(100, gt=0, description="a frame is kept every so many timesteps")
    train_fraction: TrainFraction = Field(0.8, description="share of the systems trained on; the rest validates")
    test_systems: int = Field(10, gt=0, description="systems of the test set, of each number of atoms")
    test_time: float = Field(1000.0, gt=0, description="length of a test trajectory (reduced time); published: 1e6")
    test_epsilon: float = Field(2.0, gt=0, description="ε of the test systems")
    test_temperature: float = Field(1.0, gt=0, description="temperature of the first velocities of test systems")
    block: int = Field(8, gt=0, description="systems in one work item, which is one shard of the store")

    @property
    def operator_systems(self) -> tuple[str, ...]:
        """One for each number of atoms: lj3, lj8, lj16."""
        return tuple(f"lj{atoms}" for atoms in self.atoms)

    def stream_of(self, system: str) -> int:
        """The number of atoms."""
        return int(system.removeprefix("lj"))

    @property
    def loads(self) -> tuple[Load, ...]:
        """Positions, velocities and energy of the sweep and of the test."""
        return tuple(
            Load(
                min(self.block, systems),
                f"systems of {max(self.atoms)} atoms and {frames:,.0f} frames",
                (6 * max(self.atoms) + 1) * frames,
            )
            for systems, time in ((self.systems, self.time), (self.test_systems, self.test_time))
            for frames in [time / (self.timestep * self.stride) + 1]
        )


class Lj2d(Dataset):
    """Lennard-Jones atoms in a periodic square, from gas to solid: Park (2022), chapter 5."""

    wanted: ClassVar[str] = "effective_force"
    stages: ClassVar[tuple[str, ...]] = STAGES

    family: Literal["lj2d"] = Field("lj2d", description="dataset family")
    atoms: int = Field(16, gt=1, description="atoms")
    densities: Numbers = Field((0.1, 0.14, 0.2, 0.27, 0.38), description="densities (1/σ²)")
    temperatures: Numbers = Field(
        (0.27, 0.31, 0.35, 0.39, 0.43, 0.47, 0.51, 0.55, 0.59, 0.63, 0.67, 0.71),
        description="temperatures (ε/k) of the samples for training and validation",
    )
    samples: CountOrCounts = Field(
        (15_000,) * 8 + (30_000,) * 4,
        description="samples at each temperature, of each density: one number, or one for each temperature",
    )
    cutoff: Number | None = Field(None, description="cutoff (σ); none: every atom's nearest image")
    shift: Literal["none", "constant", "exact"] = Field(
        "none", description="what is added to the energy of a pair within the cutoff"
    )
    # Unpublished. Measured at the published densities and temperatures: the slowest, thin and cold, come down from a
    # random placement to one solid in 5400 sweeps (1/e); in equilibrium energies 2000 sweeps apart are correlated by
    # 0.07 at most, 1000 sweeps apart by 0.17.
    equilibration_sweeps: int = Field(30_000, gt=0, description="Monte Carlo sweeps before the first sample")
    sweeps_between_samples: int = Field(2000, gt=0, description="Monte Carlo sweeps from one sample to the next")
    timestep: float = Field(1e-4, gt=0, description="Verlet timestep of the labels, τ_S (reduced time)")
    large_timestep: float = Field(0.1, gt=0, description="timestep that is learned, τ_L (reduced time)")
    # Unpublished. In 8 steps an error grows by 1.2 to 1.9 e-folds: Lyapunov exponents are 1.5 to 2.4.
    chain: int = Field(8, gt=0, description="large timesteps that are stored of each sample, χ")
    train_fraction: TrainFraction = Field(0.8, description="share of the samples trained on; the rest validates")
    test_temperatures: Numbers = Field((0.27, 0.47, 0.71), description="temperatures (ε/k) of the test samples")
    test_samples: int = Field(1000, gt=0, description="test samples at each test temperature, of each density")
    test_time: float = Field(10.0, gt=0, description="length of a test trajectory (reduced time); published: 1000")
    block: int = Field(500, gt=0, description="samples in one work item, which is one shard of the store")

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples at each temperature."""
        return _one_for_each(self.samples, self.temperatures)

    @property
    def test_systems(self) -> int:
        """Test samples at each test temperature, as rollouts call them."""
        return self.test_samples

    @property
    def loads(self) -> tuple[Load, ...]:
        """Positions, velocities and energy of the samples for training and of those for testing."""
        kinds = ((max(self.counts), self.chain + 1), (self.test_samples, self.test_time / self.large_timestep + 1))
        return tuple(
            Load(min(self.block, samples), f"samples of {frames:,.0f} frames", (4 * self.atoms + 1) * frames)
            for samples, frames in kinds
        )


class LjLiquid(Dataset):
    """Equilibrated Lennard-Jones liquids: Wang et al., principle of least action, supporting information."""

    stages: ClassVar[tuple[str, ...]] = ("generate", "act", "report")
    wanted: ClassVar[str] = "action"

    family: Literal["lj_liquid"] = Field("lj_liquid", description="dataset family")
    atoms: Counts = Field((16, 32, 64, 108, 256, 500), description="numbers of atoms; each is a set of its own")
    systems: int = Field(1, gt=0, description="independent runs of each number of atoms")
    density: float = Field(0.787, gt=0, description="density (1/σ³)")
    temperature: float = Field(0.695, gt=0, description="temperature (ε/k) at which the liquid is equilibrated")
    cutoff: Number | None = Field(
        None, description="cutoff (σ), where a pair's energy is shifted to 0; none: every atom's nearest image"
    )
    timestep: float = Field(0.001, gt=0, description="Verlet timestep Δ (reduced time); published: 2 fs")
    equilibration_time: float = Field(
        967.0, gt=0, description="time of equilibration before the first frame (reduced time); published: 2 ns"
    )
    equilibration_timestep: Number | None = Field(
        None, description="Verlet timestep of the equilibration (reduced time); none: that of the trajectory"
    )
    time: float = Field(0.5, gt=0, description="length of a trajectory (reduced time)")
    stride: int = Field(20, gt=0, description="a frame is kept every so many timesteps")
    block: int = Field(1, gt=0, description="runs in one work item, which is one shard of the store")

    def windows_of(self, atoms: int) -> Windows:
        """Every window from the start of a trajectory."""
        return Windows(f"lj{atoms}", str(atoms), self.time)

    @property
    def loads(self) -> tuple[Load, ...]:
        """Positions, velocities and energy of the largest system."""
        frames = self.time / (self.timestep * self.stride) + 1
        what = f"runs of {max(self.atoms)} atoms and {frames:,.0f} frames"
        return (Load(min(self.block, self.systems), what, (6 * max(self.atoms) + 1) * frames),)


class Sight(NamedTuple):
    """What a learned potential of a material sees: how far, how far in triplets, and where its first G2 stands.

    By linear fits these are best: triplets end a little before the material's own, whose forces vanish there faster
    than a cosine; G2 begin before the shortest distance.
    """

    cutoff: float
    angular_cutoff: float
    nearest: float


@dataclass(frozen=True)
class Material:
    """What is usual for a material, in its own units; the crystal's cell has `cell_atoms` atoms."""

    cell_atoms: int
    cells: int
    timestep: float
    melt_temperature: float
    crystal: tuple[tuple[float, float], ...]
    liquid: tuple[tuple[float, float], ...]
    sight: Sight


# Where Lennard-Jones pairs of configurations end (σ).
LJ_CUTOFF = 2.5
# States are (temperature, density).
MATERIALS: Mapping[str, Material] = MappingProxyType(
    {
        "lennard_jones": Material(
            4, 4, 0.004, 3.0, ((0.3, 1.0), (0.6, 1.0)), ((0.695, 0.787), (1.0, 0.85)), Sight(2.6, 2.0, 0.75)
        ),
        "silicon": Material(
            8,
            2,
            0.001,
            6000.0,
            ((300.0, 2.33), (1000.0, 2.33), (1600.0, 2.33)),
            ((1800.0, 2.5), (3500.0, 2.5)),
            Sight(3.7, 3.5, 1.7),
        ),
        "mw_water": Material(
            8,
            3,
            0.005,
            1000.0,
            ((100.0, 0.92), (250.0, 0.92)),
            ((298.0, 0.95), (298.0, 0.997), (298.0, 1.05)),
            Sight(4.22, 4.0, 2.0),
        ),
        "silica": Material(
            24,
            2,
            0.001,
            9000.0,
            ((300.0, 2.17), (1500.0, 2.17)),
            ((4000.0, 2.2), (6000.0, 2.65)),
            Sight(10.0, 2.8, 1.1),
        ),
    }
)


class State(Section):
    """A phase at a temperature and density."""

    phase: Literal["crystal", "liquid"] = Field(
        description="crystal: the material's lattice, heated; liquid: molten at dataset.melt_temperature, then cooled"
    )
    temperature: float = Field(gt=0, description="temperature (K; lennard_jones: ε/k)")
    density: float = Field(gt=0, description="density (g/cm³; lennard_jones: 1/σ³)")


def _usual(given: dict) -> Material:
    return MATERIALS[given.get("material", "lennard_jones")]


def _usual_states(given: dict) -> tuple[State, ...]:
    usual = _usual(given)
    phases = (("crystal", usual.crystal), ("liquid", usual.liquid))
    return tuple(State(phase=phase, temperature=t, density=d) for phase, states in phases for t, d in states)


class Configurations(Dataset):
    """Configurations with energies, forces and virials, from which neural-network potentials learn."""

    stages: ClassVar[tuple[str, ...]] = ("generate", "train", "report")
    wanted: ClassVar[str] = "fit"

    family: Literal["configurations"] = Field("configurations", description="dataset family")
    material: Literal[tuple(MATERIALS)] = Field(
        "lennard_jones", description="potential: Lennard-Jones, Stillinger–Weber silicon, mW water, Vashishta silica"
    )
    states: Annotated[tuple[State, ...], Strict(False), Field(min_length=1)] = Field(
        default_factory=_usual_states, description="phases with temperature and density; default: the material's own"
    )
    cells: int = Field(
        default_factory=lambda given: _usual(given).cells,
        gt=0,
        description="cells of the lattice along each axis; default: the material's own",
    )
    systems: int = Field(10, gt=0, description="independent runs of each state")
    frames: int = Field(20, gt=0, description="configurations kept of each run")
    timestep: float = Field(
        default_factory=lambda given: _usual(given).timestep,
        gt=0,
        description="Verlet timestep (ps; lennard_jones: reduced time); default: the material's own",
    )
    melt_temperature: float = Field(
        default_factory=lambda given: _usual(given).melt_temperature,
        gt=0,
        description="temperature at which liquids are molten (K; lennard_jones: ε/k); default: the material's own",
    )
    melt_time: float = Field(10.0, gt=0, description="time at the melt temperature (ps; reduced)")
    equilibration_time: float = Field(10.0, gt=0, description="time at a state's temperature before the first frame")
    time_between_frames: float = Field(0.5, gt=0, description="time from one frame to the next (ps; reduced)")
    train_fraction: TrainFraction = Field(0.8, description="share of each state's runs trained on; the rest validates")
    block: int = Field(1, gt=0, description="runs in one work item, which is one shard of the store")

    @property
    def atoms(self) -> int:
        """Atoms of a configuration."""
        return MATERIALS[self.material].cell_atoms * self.cells**3

    @property
    def loads(self) -> tuple[Load, ...]:
        """Positions, velocities, forces and energies of the atoms, energy and virial."""
        what = f"runs of {self.atoms} atoms and {self.frames:,} frames"
        return (Load(min(self.block, self.systems), what, (10 * self.atoms + 10) * self.frames),)


class Spins(Dataset):
    """Heisenberg spins on a periodic cubic lattice: Park (2022), chapter 4."""

    wanted: ClassVar[str] = "correction"
    stages: ClassVar[tuple[str, ...]] = STAGES

    family: Literal["spins"] = Field("spins", description="dataset family")
    baseline: Literal["st2_exact", "frozen_field"] = Field(
        "st2_exact",
        description="the coarse step: second-order Suzuki–Trotter, or all spins turned at once about frozen fields",
    )
    size: int = Field(4, ge=4, multiple_of=2, description="spins along each edge of the lattice, L; published: 4 and 8")
    temperatures: Numbers = Field(
        (0.5, 0.56, 0.61, 0.67, 0.74, 0.81, 0.89, 0.98, 1.08, 1.19, 1.31, 1.44, 1.58, 1.74, 1.92, 2.11, 2.32),
        description="temperatures (J/k) of the annealing and of the samples for training and validation",
    )
    samples: CountOrCounts = Field(
        (30_000,) * 10 + (70_000,) * 3 + (100_000,) * 4,
        description="samples at each temperature: one number, or one for each temperature",
    )
    # With four over-relaxation sweeps an energy is forgotten in 8 sweeps at T_c and L = 8, 6 at L = 4, a direction of
    # the magnetization in 18 at most (measured, integrated correlation times).
    equilibration_sweeps: int = Field(200, gt=0, description="Monte Carlo sweeps at each temperature of the annealing")
    sweeps_between_samples: int = Field(20, gt=0, description="Monte Carlo sweeps from one sample to the next")
    over_relaxation_sweeps: int = Field(4, ge=0, description="over-relaxation sweeps after each Monte Carlo sweep")
    timestep: float = Field(0.1, gt=0, description="timestep whose error is learned, τ (1/J)")
    fine_timestep: float = Field(0.001, gt=0, description="timestep of the labels (1/J)")
    fine_order: Literal[2, 4] = Field(2, description="order of the labels' Suzuki–Trotter steps")
    chain: int = Field(1, gt=0, description="timesteps τ that are stored of each sample")
    train_fraction: TrainFraction = Field(0.8, description="share of the samples trained on; the rest validates")
    test_temperatures: Numbers = Field((0.4, 1.44, 2.4), description="temperatures (J/k) of the test samples")
    test_samples: int = Field(100, gt=0, description="test samples at each test temperature")
    test_time: float = Field(20.0, gt=0, description="length of a test trajectory (1/J), of fourth order")
    block: int = Field(1000, gt=0, description="samples in one work item, which is one shard of the store")

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples at each temperature."""
        return _one_for_each(self.samples, self.temperatures)

    @property
    def test_systems(self) -> int:
        """Test samples at each test temperature, as rollouts call them."""
        return self.test_samples

    @property
    def loads(self) -> tuple[Load, ...]:
        """Spins of samples at the start, at all frames, and a coarse step after each; of tests at all frames."""
        sites, steps = 3 * self.size**3, self.test_time / self.timestep
        return (
            Load(min(self.block, max(self.counts)), f"samples of {self.chain} steps", sites * (2 * self.chain + 3)),
            Load(min(self.block, self.test_samples), f"test samples of {steps:,.0f} steps", sites * (steps + 1)),
        )


def _one_for_each(numbers: tuple[int, ...], of: tuple) -> tuple[int, ...]:
    return numbers * len(of) if len(numbers) == 1 else numbers


AnyDataset = Annotated[
    Newton1d | LjFewBody | Lj2d | LjLiquid | Configurations | Spins | EndStates, Field(discriminator="family")
]
DATASETS: Mapping[str, type[Dataset]] = MappingProxyType(
    {
        section.model_fields["family"].default: section
        for section in (Newton1d, LjFewBody, Lj2d, LjLiquid, Configurations, Spins, EndStates)
    }
)
