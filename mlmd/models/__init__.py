"""The trainable models by name: one published idea a file, in Keras.

What a model module offers is said in `mlmd.models.base`; the run file's keys of each are in `mlmd.config.models`.
Modules are named and imported on demand, as Keras takes seconds.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "lstm_operator": "mlmd.models.lstm_operator",
        "shear_map": "mlmd.models.shear_map",
        "action_angle": "mlmd.models.action_angle",
        "pair_shears": "mlmd.models.pair_shears",
    }
)


def load(name: str) -> ModuleType:
    """The module of a registered model."""
    return importlib.import_module(MODELS[name])
