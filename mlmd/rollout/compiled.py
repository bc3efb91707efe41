"""Model folder → operator; what a kind of operator's module offers is said in `mlmd.rollout.model_folder`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.rollout import model_folder
from mlmd.rollout.operator import Operator, UnusableModel

__all__ = ["KINDS", "UnusableModel", "load"]

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "lstm_operator": "mlmd.rollout.lstm_operator",
        "shear_map": "mlmd.rollout.shear_map",
        "action_angle": "mlmd.rollout.action_angle",
        "pair_shears": "mlmd.rollout.pair_shears",
    }
)
_OF_ALL = {"system": str, "stride": int, "timestep": float, "features": int, "dtype": str}


def load(folder: Path) -> Operator:
    """The trained operator in a model folder. Raises `UnusableModel` where something is missing or disagrees."""
    return model_folder.read(folder, KINDS, _OF_ALL, "operator")
