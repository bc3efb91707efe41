"""Unit systems: what 1 means for each kind of quantity that a field can hold, and the constants that belong to them.

reduced: length σ, energy ε and mass m are 1, so time is σ·sqrt(m/ε). The one-particle systems use it with their
parameters "around 1" (Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3).
metal: LAMMPS' units of that name (LAMMPS documentation, command `units`), but for the density, which is that of mass.
spins: unit vectors coupled by J, with ħ = 1 and k the Boltzmann constant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
                "force": "ε/σ",
                "stiffness": "ε/σ²",
                "temperature": "ε/k",
                "density": "1/σ^dim",
                "none": "1",
            }
        ),
        "metal": MappingProxyType(
            {
                "length": "Å",
                "energy": "eV",
                "mass": "g/mol",
                "time": "ps",
                "velocity": "Å/ps",
                "force": "eV/Å",
                "temperature": "K",
                "density": "g/cm³",
                "none": "1",
            }
        ),
        "spins": MappingProxyType({"energy": "J", "time": "1/J", "temperature": "J/k", "none": "1"}),
    }
)


@dataclass(frozen=True)
class Constants:
    """Constants in the units of one system.

    `boltzmann`: k, energy per temperature. `inertia`: energy of mass times velocity squared, so that the kinetic
    energy is ½·inertia·m·v² and the acceleration F/(inertia·m). `coulomb`: e²/4πε₀, energy times length; None where
    there are no charges. `molar_density`: entities of mass 1 in a volume of 1 at a density of 1; None where the
    density counts them.
    """

    boltzmann: float
    inertia: float
    coulomb: float | None = None
    molar_density: float | None = None


# The numbers of metal are those that LAMMPS computes with (src/update.cpp, set_units): `boltz`, `mvv2e`, `qqr2e`, from
# CODATA of 2006 with fewer digits. Newer ones would change energies in the eighth digit: what is compared with
# published potentials has to have these. The Avogadro constant is exact since 2019 (SI brochure, 9th edition).
CONSTANTS: Mapping[str, Constants] = MappingProxyType(
    {
        "reduced": Constants(boltzmann=1.0, inertia=1.0),
        "metal": Constants(boltzmann=8.617343e-5, inertia=1.0364269e-4, coulomb=14.399645, molar_density=0.602214076),
        "spins": Constants(boltzmann=1.0, inertia=1.0),
    }
)
