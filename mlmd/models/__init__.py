"""The trainable models by name: one published idea a file, in Keras.

A model module offers `build` (the network), `scaled_targets` (what it is to predict) and `export` (the arrays that
the compiled rollout reads). Modules are named and imported on demand, as Keras takes seconds.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

MODELS: Mapping[str, str] = MappingProxyType({"lstm_operator": "mlmd.models.lstm_operator"})


def load(name: str) -> ModuleType:
    """The module of a registered model."""
    return importlib.import_module(MODELS[name])
