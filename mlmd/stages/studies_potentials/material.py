"""What the studies of trained potentials share: the potentials of a campaign beside their references, and starts.

A start is prepared by the reference, as those of the datasets are: liquids molten and cooled at constant volume. From
the same starts potential and reference then go their own ways.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from mlmd.config import Run
from mlmd.config.datasets import MATERIALS, Configurations, State
from mlmd.datasets import configurations
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.physics.integrators import VelocityRescaling, VelocityVerlet
from mlmd.physics.potentials import Potential
from mlmd.physics.preparation import RELAXATION_STEPS
from mlmd.stages import layout, potential_parts
from mlmd.stages.potential_parts import Start
from mlmd.units import CONSTANTS

SEED, MOST_STARTS = 7, 1000


# The liquid that structures are compared in.
LIQUIDS: Mapping[str, State] = MappingProxyType(
    {
        "lennard_jones": State(phase="liquid", temperature=0.695, density=0.787),
        "silicon": State(phase="liquid", temperature=1800.0, density=2.5),
        "mw_water": State(phase="liquid", temperature=298.0, density=0.997),
        "silica": State(phase="liquid", temperature=4000.0, density=2.2),
    }
)
# Of the lattice that it starts from: 256, 216, 216 and 192 atoms.
CELLS: Mapping[str, int] = MappingProxyType({"lennard_jones": 4, "silicon": 3, "mw_water": 3, "silica": 2})


@dataclass(frozen=True)
class System:
    """A trained potential by its run's name, what it was trained on, and the timestep of that."""

    name: str
    material: str
    learned: Any
    reference: Potential
    timestep: float

    @property
    def units(self) -> str:
        """Of the material."""
        return SUBSTANCES[self.material].units

    @property
    def species(self) -> tuple[str, ...]:
        """Of the material."""
        return SUBSTANCES[self.material].species


def systems(runs: Mapping[str, Run]) -> list[System]:
    """The trained potentials of runs, in their order; of a committee its first member."""
    found = []
    for name, run in runs.items():
        if run.fit is not None and (layout.potential(run, 0) / "model.json").exists():
            learned, material = potential_parts.moved(potential_parts.trained(run)), run.dataset.material
            reference = SUBSTANCES[material].potential()
            found.append(System(name, material, learned, reference, run.dataset.timestep))
    return found


@functools.cache
def prepared(material: str, state: State, number: int, cells: int, steps: int) -> Start:
    """One of many independent runs of the reference in a state: `steps` of equilibration, of a liquid as many molten.

    At the material's own timestep.
    """
    time = steps * MATERIALS[material].timestep
    dataset = Configurations(
        material=material,
        states=(state,),
        cells=cells,
        systems=MOST_STARTS,
        frames=1,
        melt_time=time,
        equilibration_time=time,
    )
    row = {"start": number, "stop": number + 1}
    made = configurations.simulate(SimpleNamespace(seed=SEED, dataset=dataset), row)
    read = {name: made[f"runs/{name}"][0] for name in ("position", "velocity", "box", "species")}
    species = read["species"].astype(int)
    mass = np.array(SUBSTANCES[material].masses)[species - 1]
    return Start(read["position"][0], read["velocity"][0], read["box"], species, mass, state.temperature)


def canonical(
    potential: Potential,
    start: Start,
    timestep: float,
    units: str,
    settling: int,
    sampling: int,
    stride: int,
    seed: int,
    look: Callable[[np.ndarray], None],
) -> None:
    """Dynamics at the start's temperature; `look` is given the positions (atoms, 3) every `stride` steps of `sampling`.

    By velocity Verlet with stochastic velocity rescaling. Raises what the integrator raises.
    """
    constants = CONSTANTS[units]
    mass = constants.inertia * start.mass
    thermostat = VelocityRescaling(
        VelocityVerlet(potential, timestep),
        start.temperature,
        RELAXATION_STEPS * timestep,
        np.random.default_rng([SEED, seed]),
        boltzmann=constants.boltzmann,
    )
    species = start.species.astype(int)
    state = thermostat.run(start.position, start.velocity, start.box, settling, mass, species)
    for _ in range(sampling // stride):
        state = thermostat.run(*state, start.box, stride, mass, species)
        look(state[0])
