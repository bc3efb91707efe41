"""Ours beside LAMMPS: the same state, timestep and number of steps, one core each, in turn.

    bash tests/benchmarks/run.sh -k lammps

Prints atom-steps per second and their ratio, ours over LAMMPS, from the fastest round and from the median one. LAMMPS'
time is its own loop time; ours is that of a whole `VelocityVerlet.run`, with the making of its lists, after a first
call that compiles; "energy" is the change of the total energy over the run, relative to the kinetic. Nothing is
asserted about time; that both programs start from the same energy and conserve it is.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tests.benchmarks.lammps import ours, theirs
from tests.benchmarks.lammps.starts import DATA, Start, liquid, silicon_crystal, silicon_liquid, stored
from tests.tolerances import LAMMPS_MANY_BODY, LAMMPS_PAIRS, SHORT_RUN_DRIFT

ROUNDS = 3
NOT_EVALUATED = {"lj16_verlet", "lj108_verlet", "least_action_lj500"}


@dataclass(frozen=True)
class Case:
    """`bar`: the ratio that is asked for."""

    name: str
    start: Callable[[], Start]
    steps: int
    bar: float


CASES = [
    Case("LJ 16", lambda: stored("lj16").at(1.0), 600_000, 2.0),
    Case("LJ 108", lambda: stored("lj108").at(0.695), 30_000, 2.0),
    Case("LJ 500", liquid, 8000, 1.2),
    Case("LJ 4000", lambda: liquid(2), 1200, 1.5),
    Case("LJ 32000", lambda: liquid(4), 200, 1.2),
    Case("Si 216 crystal", lambda: stored("si216_crystal").at(300.0), 6000, 1.0),
    Case("Si 216 liquid", lambda: stored("si216_liquid").at(3400.0), 3000, 1.0),
    Case("Si 1000 crystal", silicon_crystal, 1500, 1.0),
    Case("Si 1000 liquid", silicon_liquid, 600, 1.0),
    Case("SiO2 192 crystal", lambda: stored("sio2_192_cristobalite").at(300.0), 1000, 0.8),
    Case("SiO2 192 liquid", lambda: stored("sio2_192_melt_rho2200").at(4900.0), 800, 0.8),
]


@pytest.fixture(scope="module")
def lammps():
    """LAMMPS' program, or None where it cannot be installed."""
    found = theirs.install()
    if isinstance(found, str):
        print(f"\nLAMMPS cannot be installed here, ours is shown alone: {found}")
        return None
    return found


def in_turn(runs: dict, rounds: int = ROUNDS) -> dict:
    """Each of the runs `rounds` times, one after the other: lists of what they gave back."""
    found = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def fastest(runs: list) -> float:
    return min(run.seconds for run in runs)


def median(runs: list) -> float:
    return statistics.median(run.seconds for run in runs)


def drift(run) -> float:
    """Change of the total energy, relative to the kinetic."""
    before, after = (sum(energies) for energies in zip(run.potential, run.kinetic, strict=True))
    return (after - before) / run.kinetic[0]


def show(benchmark, text: str, numbers: dict[str, float]) -> None:
    print(f"\n{text}")
    benchmark.extra_info.update(numbers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_ratio(benchmark, lammps, tmp_path, case):
    start = case.start()
    (core,) = ours.cores(1)
    runs = {"ours": lambda: ours.measure(start, ours.Settings(case.steps), tmp_path / "ours", [core])}
    if lammps:
        runs["LAMMPS"] = lambda: theirs.run(lammps, start, case.steps, tmp_path / "theirs", core)
    found = benchmark.pedantic(in_turn, args=(runs,), rounds=1)

    numbers = {}
    told = []
    for name, of in found.items():
        numbers[name] = len(start.position) * case.steps / fastest(of) / 1e6
        times = f"{fastest(of) / case.steps * 1e6:.2f} µs a step (median {median(of) / case.steps * 1e6:.2f})"
        told.append(f"{name} {numbers[name]:.2f} M atom-steps/s, {times}, energy {drift(of[0]):+.0e}")
    if lammps:
        numbers["ratio"] = fastest(found["LAMMPS"]) / fastest(found["ours"])
        of_medians = median(found["LAMMPS"]) / median(found["ours"])
        told.insert(0, f"{numbers['ratio']:.2f} times LAMMPS (medians {of_medians:.2f}, asked for {case.bar:.1f})")
    show(benchmark, f"{case.name}: " + "; ".join(told), numbers)

    for name, of in found.items():
        assert abs(drift(of[0])) < SHORT_RUN_DRIFT, name
        assert of[0].potential[0] == pytest.approx(found["ours"][0].potential[0], rel=LAMMPS_MANY_BODY)
        assert of[0].kinetic[0] == pytest.approx(found["ours"][0].kinetic[0], rel=LAMMPS_MANY_BODY)


def two_threads(start: Start, steps: int, folder) -> dict[int, list]:
    """The same run with one thread on one core and with two on two, in turn."""
    if len(ours.cores(2)) < 2:
        pytest.skip("this process may use one core only")
    runs = {
        threads: lambda threads=threads: ours.measure(
            start, ours.Settings(steps, threads), folder / str(threads), ours.cores(threads)
        )
        for threads in (1, 2)
    }
    return in_turn(runs)


def test_two_threads(benchmark, tmp_path):
    start, steps = liquid(4), 200
    found = benchmark.pedantic(two_threads, args=(start, steps, tmp_path), rounds=1)
    one, two = (fastest(of) / steps * 1e3 for of in found.values())
    text = f"LJ 32000, two threads: {one / two:.2f} times one ({one:.2f} and {two:.2f} ms a step; asked for: 1.8)"
    show(benchmark, text, {"speedup": one / two})


def test_batches(benchmark, tmp_path):
    systems, steps = 512, 5000
    start = stored("lj16").at(1.0, systems=systems)
    found = benchmark.pedantic(two_threads, args=(start, steps, tmp_path), rounds=1)
    one, two = (fastest(of) / (steps * systems) * 1e6 for of in found.values())
    text = (
        f"LJ 16, batch of {systems}: {one:.3f} µs per step and system (asked for: 0.25); "
        f"two threads {two:.3f}, {one / two:.2f} times (asked for: 1.8)"
    )
    show(benchmark, text, {"us_per_step_and_system": one, "speedup": one / two})


def test_cost_and_memory_per_atom(benchmark, tmp_path):
    sizes = {4000: (liquid(2), 1200), 32_000: (liquid(4), 200), 256_000: (stored("lj500", times=8).at(0.695), 40)}
    runs = {
        atoms: lambda start=start, steps=steps: ours.measure(start, ours.Settings(steps), tmp_path, ours.cores(1))
        for atoms, (start, steps) in sizes.items()
    }
    found = benchmark.pedantic(in_turn, args=(runs, 2), rounds=1)
    # The outset is paid once, however long the run.
    cost = {
        atoms: min(run.seconds - run.outset for run in of) / (atoms * sizes[atoms][1]) * 1e9
        for atoms, of in found.items()
    }
    memory = (found[256_000][0].memory - found[32_000][0].memory) / (256_000 - 32_000)
    told = ", ".join(f"{atoms}: {ns:.0f} ns ({ns / cost[4000]:.2f})" for atoms, ns in cost.items())
    text = f"LJ, cost of an atom-step (asked for: within 0.8 and 1.2): {told}; memory {memory:.0f} B/atom (below 1000)"
    show(benchmark, text, {"bytes_per_atom": memory, **{str(atoms): ns for atoms, ns in cost.items()}})


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.npz") if path.stem not in NOT_EVALUATED))
def test_reference_data_is_what_lammps_says(lammps, tmp_path, name):
    if lammps is None:
        pytest.skip("LAMMPS cannot be installed here")
    with np.load(DATA / f"{name}.npz") as file:
        expected = file["energy_shift_exact" if name.startswith("lj") else "energy"][0], file["force"][0]
    energy, force = theirs.evaluate(lammps, stored(name), tmp_path)
    assert energy == pytest.approx(expected[0], rel=LAMMPS_PAIRS)
    assert np.abs(force - expected[1]).max() < LAMMPS_PAIRS * np.abs(expected[1]).max()
