"""What a potential is to learn from, looked at before any epoch."""

import numpy as np

from hpc import store
from hpc.ranks import SingleProcess
from mlmd.config import Run
from mlmd.models.descriptors import Descriptors
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials.engine import rows
from mlmd.stages import layout
from mlmd.stages.potential_data import Labelled, PotentialData
from mlmd.stages.train_potential import descriptors

# Configurations in which the shortest distance is sought.
LOOKED_AT = 200


def check_only(run: Run) -> str:
    """What is in the data and how the descriptors fit it, as a text; nothing is trained, nothing is refused.

    Raises `TooFewConfigurations`, and UnusableFile for a file of `fit.files`.
    """
    told = store.finished_attributes(layout.store(run))
    elements = tuple(told["species"])
    data = PotentialData(run, SingleProcess(), len(elements))
    start, statistics = descriptors(run, elements, run.seed), data.statistics()
    moments = data.moments(start)
    sizes = sorted({len(one.kinds) for one in data.training})
    shortest = _shortest(data.training[:: max(1, len(data.training) // LOOKED_AT)], start)
    largest = max(float(np.abs(one.force).max()) for one in data.training)
    shifts = ", ".join(f"{e} {s:.4g}" for e, s in zip(elements, statistics.shift, strict=True))
    atoms = f"{', '.join(map(str, sizes))} atoms ({told['units']} units)"
    lines = [
        f"{len(data.training)} configurations to train on, {len(data.validation)} to validate, of {atoms}",
        f"energy of an atom: {shifts}; forces: {statistics.force:.4g} (root mean square), {largest:.4g} at most",
        f"shortest distance {shortest:.4g}; an atom sees as far as {start.reach:g}, by {start.features} descriptors",
        *_warnings(start, moments, shortest),
    ]
    return "\n".join(lines)


def _warnings(start: Descriptors, moments: dict[str, np.ndarray], shortest: float) -> list[str]:
    """What makes a potential worse than it need be."""
    found = [
        f"warning: {element}: the descriptor {label} hardly changes, and is left out"
        for element, spread in zip(start.elements, moments["spread"], strict=True)
        for label, value in zip(start.labels, spread, strict=True)
        if value == 0
    ]
    if isinstance(start, SymmetryFunctions) and start.g2:
        first = min(centre for _, centre in start.g2)
        if first > shortest:
            found.append(
                f"warning: the first G2 stands at {first:.4g}, beyond the shortest distance: steep repulsion is seen "
                f"badly; model.nearest should be below {shortest:.4g}"
            )
    return found


def _shortest(configurations: list[Labelled], start: Descriptors) -> float:
    """The shortest distance of two atoms; that far as an atom sees, if none is nearer."""
    least = start.reach
    for one in configurations:
        lengths = np.full(3, np.inf) if one.box is None else one.box
        near = NeighborList(lengths, start.reach, 0.0).build(rows(one.position))
        for row, entry in enumerate(near.row):
            others = near.place[:, near.index[row, : near.count[row]]] - near.place[:, entry : entry + 1]
            if others.size:
                least = min(least, float(np.sqrt((others**2).sum(axis=0).min())))
    return least
