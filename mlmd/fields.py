"""Every array of every store, named once: axes, type, unit, meaning.

`unit` is a kind of quantity; `mlmd.units.UNITS` says what 1 of it means. Axes: system, frame, atom, dim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Field:
    """One named array: its axes in order, its numpy type, the kind of its unit, and what it holds."""

    name: str
    axes: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str


_ALL = (
    Field("position", ("system", "frame", "atom", "dim"), "float64", "length", "positions at the stored frames"),
    Field("velocity", ("system", "frame", "atom", "dim"), "float64", "velocity", "velocities at the stored frames"),
    Field("energy", ("system", "frame"), "float64", "energy", "total energy, kinetic and potential"),
    Field("time", ("frame",), "float64", "time", "time of a stored frame; the first is 0"),
    Field("mass", ("system",), "float64", "mass", "mass of the particle"),
    Field("stiffness", ("system",), "float64", "stiffness", "spring constant k of eq. 6; nan where there is none"),
    Field("initial_position", ("system",), "float64", "length", "position at time 0, where the particle rests"),
    Field("inside", ("system",), "bool", "none", "every parameter lies within the range of the sweep"),
    Field("split", ("system",), "int8", "none", "0: trained on, 1: validation"),
)
FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _ALL})
