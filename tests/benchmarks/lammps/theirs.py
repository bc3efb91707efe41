"""LAMMPS in a process of its own: from a start to the loop time and the energies of its own log."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.lammps.starts import MASSES, Start
from tests.programs import CHECKOUT, environment

# LAMMPS comes without this one, and reads ours.
MW_FILE = CHECKOUT / "mlmd/physics/potentials/parameters/mW.sw"
PAIRS = {
    "lj": ("lj/cut/opt 2.5", "* * 1.0 1.0\npair_modify shift yes"),
    "si": ("sw", "* * Si.sw Si"),
    "mw": ("sw", "* * mW.sw mW"),
    "sio2": ("vashishta", "* * SiO.1990.vashishta Si O"),
}
INPUT = """
units {units}
atom_style atomic
read_data start.data
pair_style {style}
pair_coeff {coefficients}
neighbor {skin} bin
neigh_modify delay 0 every 1 check yes
timestep {timestep}
thermo_style custom step pe ke
thermo_modify norm no format float %.17g
"""
TIMED = "thermo {steps}\nfix nve all nve\nrun {steps}\n"
FORCES = "dump forces all custom 1 forces id fx fy fz\ndump_modify forces sort id format float %.17g\nrun 0\n"


@dataclass(frozen=True)
class Run:
    """Seconds of the loop; potential and kinetic energy before the first and after the last step."""

    seconds: float
    potential: tuple[float, float]
    kinetic: tuple[float, float]


def install() -> Path | str:
    """LAMMPS' program, installed if need be, or why there is none."""
    done = subprocess.run(
        ["bash", CHECKOUT / "jobs/lammps.sh"], capture_output=True, text=True, env=environment(), check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def run(lammps: Path, start: Start, steps: int, folder: Path, core: int) -> Run:
    """Runs `steps` steps of `fix nve` on one core."""
    log = _execute(lammps, start, TIMED.format(steps=steps), folder, ["taskset", "-c", str(core)])
    (seconds,) = re.findall(r"^Loop time of (\S+) on 1 procs", log, re.MULTILINE)
    (_, *first), (_, *last) = re.findall(r"^\s*(\d+)\s+(\S+)\s+(\S+)\s*$", log.partition("KinEng")[2], re.MULTILINE)
    potential, kinetic = zip(map(float, first), map(float, last), strict=True)
    return Run(float(seconds), potential, kinetic)


def evaluate(lammps: Path, start: Start, folder: Path) -> tuple[float, np.ndarray]:
    """Potential energy and forces (atoms, 3) at a start."""
    log = _execute(lammps, start, FORCES, folder, [])
    energy = re.search(r"^\s*0\s+(\S+)\s+\S+\s*$", log.partition("KinEng")[2], re.MULTILINE)[1]
    return float(energy), np.loadtxt(folder / "forces", skiprows=9, usecols=(1, 2, 3), ndmin=2)


def _execute(lammps: Path, start: Start, commands: str, folder: Path, before: list[str]) -> str:
    style, coefficients = PAIRS[start.material]
    reduced = start.material == "lj"
    text = INPUT.format(
        units="lj" if reduced else "metal",
        style=style,
        coefficients=coefficients,
        skin=0.3 if reduced else 1.0,
        timestep=start.timestep,
    )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MW_FILE, folder)
    (folder / "start.data").write_text(_data_file(start))
    (folder / "in.run").write_text(text + commands)
    (potentials,) = lammps.parent.parent.glob("lib/python*/site-packages/lammps/share/lammps/potentials")
    subprocess.run(
        [*before, lammps, "-in", "in.run", "-log", "log.run", "-screen", "none"],
        cwd=folder,
        env=environment(LAMMPS_POTENTIALS=str(potentials)),
        check=True,
    )
    return (folder / "log.run").read_text()


def _data_file(start: Start) -> str:
    masses = MASSES[start.material]
    lines = ["A start", "", f"{len(start.position)} atoms", f"{len(masses)} atom types", ""]
    lines += [f"0 {edge:.17g} {axis}lo {axis}hi" for edge, axis in zip(start.box, "xyz", strict=True)]
    lines += ["", "Masses", "", *(f"{kind} {mass}" for kind, mass in enumerate(masses, 1))]
    lines += ["", "Atoms # atomic", ""]
    atoms = enumerate(zip(start.species, start.position.tolist(), strict=True), 1)
    lines += [f"{row} {kind} {x:.17g} {y:.17g} {z:.17g}" for row, (kind, (x, y, z)) in atoms]
    lines += ["", "Velocities", ""]
    lines += [f"{row} {x:.17g} {y:.17g} {z:.17g}" for row, (x, y, z) in enumerate(start.velocity.tolist(), 1)]
    return "\n".join(lines) + "\n"
