"""Configurations of unequal size in one batch, without any filling up: their tables one after the other."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np


def together(
    tables: Sequence[Mapping[str, np.ndarray]], indices: Mapping[str, str], counts: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The tables of several configurations as one, with `configuration` (atoms,): which of them an atom is of.

    `indices`: which arrays are indices, and into what ("atoms", "pairs", …); `counts`: the array whose length is the
    number of each of those. Other arrays are joined as they are.
    """
    starts = {
        what: np.cumsum([0, *(len(one[name]) for one in tables)])[:-1].astype(np.int32) for what, name in counts.items()
    }
    joined = {
        name: np.concatenate(
            [
                one[name] if name not in indices else one[name] + starts[indices[name]][place]
                for place, one in enumerate(tables)
            ]
        )
        for name in tables[0]
    }
    sizes = [len(one[counts["atoms"]]) for one in tables]
    return {**joined, "configuration": np.repeat(np.arange(len(tables), dtype=np.int32), sizes)}


def errors(model, batch, energy_weight: float, force_weight: float):
    """What training makes small, then what it is made of: (loss, mean square error of the energy per atom, of forces).

    The batch holds besides tables `energy` (configurations,) per atom and `force` (atoms, 3), the targets. Weights are
    in units of 1/energy² and 1/force². Every configuration counts alike in energies, every component in forces.
    """
    ops = keras.ops
    energy, force = model.energies_and_forces(batch)
    configurations = ops.shape(batch["energy"])[0]
    sizes = ops.segment_sum(ops.ones_like(energy), batch["configuration"], num_segments=configurations)
    mean = ops.segment_sum(energy, batch["configuration"], num_segments=configurations) / sizes
    of_energy = ops.mean(ops.square(mean - batch["energy"]))
    of_force = ops.mean(ops.square(force - batch["force"]))
    return ops.stack([energy_weight * of_energy + force_weight * of_force, of_energy, of_force])
