"""Unit systems: what 1 means for each kind of quantity that a field can hold.

reduced: length σ, energy ε and mass m are 1, so time is σ·sqrt(m/ε). The one-particle systems use it with their
parameters "around 1" (Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3).
"""

from collections.abc import Mapping
from types import MappingProxyType

UNITS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "reduced": MappingProxyType(
            {
                "length": "σ",
                "energy": "ε",
                "mass": "m",
                "time": "σ·sqrt(m/ε)",
                "velocity": "sqrt(ε/m)",
                "stiffness": "ε/σ²",
                "none": "1",
            }
        ),
    }
)
