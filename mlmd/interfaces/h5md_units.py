"""Unit strings of H5MD's module "units": factors "symbol±power" with blanks between them, as "eV Ang-1" or "kJ mol-1".

The first factor may be a number. A mole here is the particles of one: kJ mol-1 is an energy of one system.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from ase import units

from mlmd.interfaces.frames import UnusableFile

# What metal units are written as.
UNITS: Mapping[str, str] = MappingProxyType({"length": "Ang", "energy": "eV", "force": "eV Ang-1", "time": "ps"})
# Powers of length, energy and time.
DIMENSIONS = {"length": (1, 0, 0), "energy": (0, 1, 0), "force": (-1, 1, 0), "time": (0, 0, 1)}
# Symbol → its value in Å, eV, ps, and what it measures (None: a number). Angstrom is what many programs write.
SYMBOLS: Mapping[str, tuple[float, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(("Ang", "Angstrom", "angstrom"), (1.0, "length")),
        **{name: (value, "length") for name, value in {"pm": 1e-2, "nm": 10.0, "um": 1e4, "m": 1e10}.items()},
        **{name: (value, "energy") for name, value in {"meV": 1e-3, "eV": 1.0, "keV": 1e3}.items()},
        "J": (units.J, "energy"),
        "kJ": (units.kJ, "energy"),
        "kcal": (units.kcal, "energy"),
        **{name: (value, "time") for name, value in {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "s": 1e12}.items()},
        "mol": (units.mol, None),
    }
)
FACTOR = re.compile(r"([A-Za-z]+|\d+(?:\.\d+)?)([+-]\d+)?")


def factor(text: str | bytes, quantity: str) -> float:
    """What a value in the unit `text` is multiplied by to be in metal units. Raises UnusableFile, with the unit."""
    unit = text.decode() if isinstance(text, bytes) else str(text)
    scale, dimension = 1.0, np.zeros(3, dtype=int)
    for place, part in enumerate(unit.split()):
        matched = FACTOR.fullmatch(part)
        if matched is None or not (matched[1] in SYMBOLS or (place == 0 and matched[1][0].isdecimal())):
            raise UnusableFile(f"unit {unit!r}: is not understood at {part!r}; known are {', '.join(SYMBOLS)}")
        value, kind = SYMBOLS[matched[1]] if matched[1] in SYMBOLS else (float(matched[1]), None)
        power = int(matched[2] or 1)
        scale *= value**power
        if kind is not None:
            dimension += power * np.array(DIMENSIONS[kind])
    if tuple(dimension.tolist()) != DIMENSIONS[quantity]:
        raise UnusableFile(f"unit {unit!r}: is none of a {quantity}, as {UNITS[quantity]!r} is")
    return scale
