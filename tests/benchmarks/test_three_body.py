"""Time of a velocity Verlet step of three-body atoms; run with `pytest tests/benchmarks/test_three_body.py`.

`extra_info` holds microseconds per atom and step, lists included, from the fastest round; and, of the same forces
without the lists, from one call.
"""

import numpy as np
import pytest

from mlmd.physics.potentials.engine import rows
from tests.benchmarks.lammps.starts import silicon_crystal, silicon_liquid, stored

STARTS = {
    "Si 216 crystal": lambda: stored("si216_crystal").at(300.0),
    "Si 216 liquid": lambda: stored("si216_liquid").at(3400.0),
    "Si 1000 crystal": silicon_crystal,
    "Si 1000 liquid": silicon_liquid,
    "water 216": lambda: stored("mw216_liquid_rho0997").at(298.0),
    "SiO2 192 crystal": lambda: stored("sio2_192_cristobalite").at(300.0),
    "SiO2 192 liquid": lambda: stored("sio2_192_melt_rho2200").at(4900.0),
}
STEPS = 300


def microseconds(benchmark, atom_steps, what):
    if benchmark.stats is None:  # under --benchmark-disable
        return
    each = benchmark.stats.stats.min / atom_steps * 1e6
    benchmark.extra_info[f"microseconds per atom and {what}"] = round(each, 3)
    print(f"\n{each:.3f} µs per atom and {what}")


@pytest.mark.parametrize("name", STARTS)
def test_step(benchmark, name):
    start = STARTS[name]()
    benchmark.pedantic(start.after, args=(STEPS,), rounds=7, warmup_rounds=1, iterations=1)
    microseconds(benchmark, STEPS * len(start.position), "step")


@pytest.mark.parametrize("name", STARTS)
def test_force(benchmark, name):
    start = STARTS[name]()
    engine = start.potential().engine(start.position, start.box, start.kinds)
    x = rows(start.position)
    engine.rebuild(x)
    benchmark.pedantic(engine.kernel, args=(x, np.empty_like(x), engine.data), rounds=300, warmup_rounds=1)
    microseconds(benchmark, len(start.position), "force")
