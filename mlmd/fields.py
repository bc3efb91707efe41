"""Every array of every store, named once: axes, type, unit, meaning.

`unit` is a kind of quantity; `mlmd.units.UNITS` says what 1 of it means in a store's unit system. Axes: system (a
trajectory), frame, atom, dim; on a lattice of spins x, y, z and component. What belongs to a step between two frames
has the axis step: step i leads from frame i to frame i + 1. The axis end is the first and the last state of a path.
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


_ATOMS = ("system", "frame", "atom", "dim")
_ENDS = ("system", "end", "atom", "dim")
_ALL = (
    Field("position", _ATOMS, "float64", "length", "positions at the stored frames"),
    Field("velocity", _ATOMS, "float64", "velocity", "velocities at the stored frames"),
    Field("force", _ATOMS, "float64", "force", "forces at the stored frames"),
    Field("energy", ("system", "frame"), "float64", "energy", "total energy, kinetic and potential"),
    Field("potential_energy", ("system", "frame"), "float64", "energy", "potential energy"),
    Field(
        "atom_energy", ("system", "frame", "atom"), "float64", "energy", "share of each atom in the potential energy"
    ),
    Field("virial", ("system", "frame", "dim", "dim"), "float64", "energy", "Σ r⊗f, without the kinetic part"),
    Field("end_position", _ENDS, "float64", "length", "positions that a path is to lead from and to"),
    Field("end_velocity", _ENDS, "float64", "velocity", "velocities at both ends of a path"),
    Field("end_time", ("system",), "float64", "time", "published time between both ends of a path"),
    Field("time", ("frame",), "float64", "time", "time of a stored frame; the first is 0"),
    Field("box", ("system", "dim"), "float64", "length", "edges of the periodic box"),
    Field("species", ("system", "atom"), "int8", "none", "species of each atom, counted from 1"),
    Field("temperature", ("system",), "float64", "temperature", "temperature that the system was prepared at"),
    Field("density", ("system",), "float64", "density", "density of the system"),
    Field("epsilon", ("system",), "float64", "energy", "depth of the Lennard-Jones potential"),
    Field("state", ("system",), "int16", "none", "place in the run file's list of states, counted from 0"),
    Field("mass", ("system",), "float64", "mass", "mass of the particle"),
    Field("stiffness", ("system",), "float64", "stiffness", "spring constant k of eq. 6; nan where there is none"),
    Field("initial_position", ("system",), "float64", "length", "position at time 0, where the particle rests"),
    Field("inside", ("system",), "bool", "none", "every parameter lies within the range of the sweep"),
    Field("split", ("system",), "int8", "none", "0: trained on, 1: validation"),
    Field("spin", ("system", "frame", "x", "y", "z", "component"), "float64", "none", "spins at the stored frames"),
    Field(
        "coarse_spin",
        ("system", "step", "x", "y", "z", "component"),
        "float64",
        "none",
        "spins at the end of a step, by one coarse timestep from its start",
    ),
)
FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _ALL})
