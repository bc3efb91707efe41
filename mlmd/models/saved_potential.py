"""Potentials on disk: a folder with model.json and weights.npz, or of a committee, with member folders.

model.json: schema, kind ("hdnnp", "fingerprints"), elements, units, descriptors (the fields of their dataclass), and
what training says of it; weights.npz: of each element `<element>/center`, `scale`, `low`, `high`, and of each layer
`<element>/kernel<layer>`, `bias<layer>`.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.committee import Committee
from mlmd.models.descriptors import Descriptors
from mlmd.models.fingerprints import Fingerprints
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.state import InvalidInput

SCHEMA = 1
KINDS: Mapping[str, type[Descriptors]] = MappingProxyType(
    {kind.kind: kind for kind in (SymmetryFunctions, Fingerprints)}
)
_OF_NETWORK = ("center", "scale", "low", "high")


def contents(potential: NeuralNetworkPotential) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What weights.npz and model.json hold of a potential."""
    arrays = {}
    for element, network in zip(potential.elements, potential.networks, strict=True):
        arrays |= {f"{element}/{name}": getattr(network, name) for name in _OF_NETWORK}
        for layer, (kernel, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
            arrays |= {f"{element}/kernel{layer}": kernel, f"{element}/bias{layer}": bias}
    described = {
        "schema": SCHEMA,
        "kind": potential.descriptors.kind,
        "elements": list(potential.elements),
        "units": potential.units,
        "descriptors": dataclasses.asdict(potential.descriptors),
    }
    return arrays, described


def load_potential(folder: str | Path) -> NeuralNetworkPotential | Committee:
    """The potential of a model folder, or the committee of a folder of them. Raises InvalidInput with what is wrong."""
    folder = Path(folder)
    members = sorted(folder.glob("member*/model.json"), key=lambda path: int(path.parent.name.removeprefix("member")))
    if not (folder / "model.json").exists() and members:
        return Committee(tuple(_load(path.parent) for path in members))
    return _load(folder)


def _load(folder: Path) -> NeuralNetworkPotential:
    try:
        described = json.loads((folder / "model.json").read_text())
        kind = KINDS[described["kind"]]
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            networks = tuple(_network(dict(weights), element) for element in described["elements"])
        return NeuralNetworkPotential(kind(**described["descriptors"]), networks, described["units"])
    except FileNotFoundError as error:
        raise InvalidInput(f"{folder}: holds no potential; {Path(error.filename).name} is missing") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder}: holds no potential that this version reads: {error}") from error


def _network(weights: dict[str, np.ndarray], element: str) -> AtomicNetwork:
    layers = sum(name.startswith(f"{element}/kernel") for name in weights)
    return AtomicNetwork(
        *(weights[f"{element}/{name}"] for name in _OF_NETWORK),
        *(tuple(weights[f"{element}/{name}{layer}"] for layer in range(layers)) for name in ("kernel", "bias")),
    )
