"""LAMMPS with the pair style nn/manybody, as a process: an input, a state, and what its thermo line and dump say."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.programs import CHECKOUT, environment, run

# bar Å³ in an eV: LAMMPS' `nktv2p` of metal units (src/update.cpp).
BAR = 1.6021765e6
START = """
units {units}
atom_style atomic
read_data start.data
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
"""
EVALUATE = """
compute energy all pe/atom
compute virial all stress/atom NULL virial
compute sums all reduce sum c_virial[1] c_virial[2] c_virial[3] c_virial[4] c_virial[5] c_virial[6]
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol c_sums[*]
thermo_modify format float %.17g
dump forces all custom 1 forces id fx fy fz c_energy
dump_modify forces sort id format float %.17g
run 0
"""


def built() -> Path:
    """`lmp` with the pair style, made if need be; skips where there is no compiler or no network to make it with."""
    done = subprocess.run(
        ["bash", CHECKOUT / "jobs/lammps.sh"], capture_output=True, text=True, env=environment(), check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if "no C++ compiler" in reason or "is there a network" in reason:
            pytest.skip(f"LAMMPS with the pair style cannot be made here: {reason}")
        raise AssertionError(done.stderr)
    return Path(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Evaluated:
    """energy; virial (3, 3) by pressure, and the sum of the atoms' own; forces (atoms, 3); atom_energy (atoms,)."""

    energy: float
    virial: np.ndarray
    sum_of_virials: np.ndarray
    forces: np.ndarray
    atom_energy: np.ndarray


@dataclass(frozen=True)
class Lammps:
    """The program, a folder to run it in, and how many ranks it runs on."""

    program: Path
    folder: Path
    ranks: int = 1

    def start(self, position: np.ndarray, box: np.ndarray, species: np.ndarray, units: str = "metal") -> None:
        """Writes the state; atoms are numbered from 1, with masses of silicon and oxygen."""
        lines = ["A start", "", f"{len(position)} atoms", f"{species.max()} atom types", ""]
        lines += [f"0 {edge:.17g} {axis}lo {axis}hi" for edge, axis in zip(box, "xyz", strict=True)]
        masses = (28.0855, 15.9994)[: species.max()]
        lines += ["", "Masses", "", *(f"{kind} {mass}" for kind, mass in enumerate(masses, 1))]
        lines += ["", "Atoms # atomic", ""]
        atoms = enumerate(zip(species, np.mod(position, box).tolist(), strict=True), 1)
        lines += [f"{row} {kind} {x:.17g} {y:.17g} {z:.17g}" for row, (kind, (x, y, z)) in atoms]
        (self.folder / "start.data").write_text("\n".join(lines) + "\n")
        (self.folder / "units").write_text(units)

    def run(self, commands: str, before: str = "") -> subprocess.CompletedProcess:
        """Runs `commands` on the state, `before` before it is read, to their end, good or bad."""
        text = before + START.format(units=(self.folder / "units").read_text()) + commands
        (self.folder / "in.run").write_text(text)
        launcher = [self.program.with_name("mpiexec"), "-n", str(self.ranks)] if self.ranks > 1 else []
        return run([*launcher, self.program, "-in", "in.run", "-log", "log"], self.folder)

    def rows(self, commands: str) -> np.ndarray:
        """The thermo lines (lines, columns) of all runs in `commands`, which end well."""
        done = self.run(commands)
        assert done.returncode == 0, done.stdout + done.stderr
        found, inside = [], False
        for line in (self.folder / "log").read_text().splitlines():
            words = line.split()
            if words[:1] == ["Step"] or words[:2] == ["Loop", "time"]:
                inside = words[0] == "Step"
            elif inside and words and "WARNING" not in line:
                found.append([float(word) for word in words])
        return np.array(found)

    def evaluate(self, style: str) -> Evaluated:
        """Everything of one state; `style`: the pair style's commands."""
        (row,) = self.rows(style + EVALUATE)
        volume = row[8]
        table = np.loadtxt(self.folder / "forces", skiprows=9, ndmin=2)
        return Evaluated(
            energy=row[1],
            virial=tensor(row[2:8]) * volume / BAR,
            sum_of_virials=-tensor(row[9:15]) / BAR,
            forces=table[:, 1:4],
            atom_energy=table[:, 4],
        )


def tensor(six: np.ndarray) -> np.ndarray:
    """xx, yy, zz, xy, xz, yz as (3, 3)."""
    xx, yy, zz, xy, xz, yz = six
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
