"""Our run in a process of its own: `measure` starts one and gives back what it found.

As a program it reads a state and settings, runs once to compile and warm up, then once more under the clock.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mlmd.physics.integrators import VelocityVerlet
from tests.benchmarks.lammps.starts import Start
from tests.programs import CHECKOUT, environment


@dataclass(frozen=True)
class Settings:
    """What is not in the state."""

    steps: int
    threads: int = 1


@dataclass(frozen=True)
class Run:
    """Seconds under the clock, and of these what a run of no step takes (checks, lists and the first force).

    Energies before and after (none for a batch); largest memory of the process in bytes.
    """

    seconds: float
    outset: float
    potential: tuple[float, float]
    kinetic: tuple[float, float]
    memory: int


def measure(start: Start, settings: Settings, folder: Path, cores: Sequence[int]) -> Run:
    """Runs in a new process on these cores."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "start.npz", **asdict(start))
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(settings.threads))
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", __name__, folder],
        cwd=CHECKOUT,
        env=environment(**threads),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Run(**json.loads(done.stdout))


def cores(count: int) -> list[int]:
    """The first processors this process may use; fewer than `count` where there are not as many."""
    return sorted(os.sched_getaffinity(0))[:count]


def _run(start: Start, settings: Settings) -> Run:
    model = start.potential()
    stepper = VelocityVerlet(model, start.timestep)

    def advance(steps):
        return stepper.run(
            start.position,
            start.velocity,
            start.box,
            steps=steps,
            mass=start.mass,
            species=start.kinds,
            threads=settings.threads,
        )

    advance(max(20, settings.steps // 20))
    begin = time.perf_counter()
    last = advance(settings.steps)
    end = time.perf_counter()
    advance(0)
    times = end - begin, time.perf_counter() - end
    memory = _most_resident()
    if start.position.ndim > 2:
        return Run(*times, (), (), memory)
    states = ((start.position, start.velocity), last)
    return Run(
        *times,
        tuple(model.compute(x, start.box, start.kinds).energy for x, _ in states),
        tuple(0.5 * float(np.sum(start.mass[:, None] * v**2)) for _, v in states),
        memory,
    )


def _most_resident() -> int:
    """Bytes; getrusage would count what the process that started this one held."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def main() -> None:
    """Reads start.npz and settings.json in the folder given; prints the run as JSON."""
    folder = Path(sys.argv[1])
    with np.load(folder / "start.npz") as file:
        start = Start(**{**file, "material": str(file["material"])})
    settings = Settings(**json.loads((folder / "settings.json").read_text()))
    print(json.dumps(asdict(_run(start, settings))))


if __name__ == "__main__":
    main()
