"""The trainable models by name: one published idea a file, in Keras.

What an operator's module offers is said in `mlmd.models.base`, what a potential's descriptors offer in
`mlmd.models.descriptors`, what a correction of spins offers in `mlmd.models.spin_problem`, what effective forces offer
in `mlmd.models.effective_force`; the run file's keys of each are in `mlmd.config.models`. Modules are named and
imported on demand, as Keras takes seconds.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlmd.models.committee import Committee
    from mlmd.models.neural_network_potential import NeuralNetworkPotential

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "lstm_operator": "mlmd.models.lstm_operator",
        "shear_map": "mlmd.models.shear_map",
        "action_angle": "mlmd.models.action_angle",
        "pair_shears": "mlmd.models.pair_shears",
        "unet": "mlmd.models.unet",
        "sublattice_turns": "mlmd.models.sublattice_turns",
        **dict.fromkeys(("pw", "mb", "pw_mb", "pw_energy"), "mlmd.models.effective_force"),
    }
)


def load(name: str) -> ModuleType:
    """The module of a registered model."""
    return importlib.import_module(MODELS[name])


def load_potential(folder: str | Path) -> "NeuralNetworkPotential | Committee":
    """The trained potential of a model folder, or the committee of a folder of members. Raises InvalidInput."""
    from mlmd.models import saved_potential

    return saved_potential.load_potential(folder)
