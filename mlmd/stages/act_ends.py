"""One problem without a run file: a file of end states → the path between them.

With velocities it is found by Gauss–Newton, with positions alone by the search over many starts. `path.npz` holds
`time` (frames,), `position`, `velocity` (frames, atoms, dim) and `total_energy` (frames,); `metrics.json` the numbers
that the table of `act` has. What was stopped goes on from its checkpoint.
"""

import hashlib
import shutil
import time
from pathlib import Path

from hpc import atomic, provenance
from hpc.checkpoint import Checkpoints
from hpc.preempt import StopFlag
from mlmd.action import ends as end_states
from mlmd.action.ends import Ends
from mlmd.action.measures import measure
from mlmd.config.action import Action, GaussNewton, PositionsOnly
from mlmd.datasets.base import stream
from mlmd.stages import act_methods
from mlmd.stages.act import numbers_of
from mlmd.stages.act_methods import Search
from mlmd.stages.act_windows import Window, potential_of


def act_ends(
    file: Path, length: float, out: Path, frames: int, cutoff: float | None, threads: int = 1, seed: int = 0
) -> str:
    """Writes path.npz, metrics.json and manifest.json below `out`; returns a line to print.

    `length` is the path's time T. Raises `UnusableEnds` and `InvalidInput` for ends or a cutoff that cannot be used,
    `CheckpointLocked` where `out` holds the checkpoint of another problem, `Preempted` on a signal.
    """
    started = time.time()
    ends = end_states.read(file, length)
    potential = potential_of(cutoff)
    # Refuses a cutoff beyond half of the box before anything is written.
    potential.energies(ends.position, ends.box)
    action = _action(ends, threads)
    settings = {"ends": _checksum(ends), "time": length, "cutoff": cutoff, "seed": seed, "method": action.method}
    with StopFlag() as stop:
        checkpoints = Checkpoints(out / "partial", settings)
        row = {"units": None, "restart": 0}
        found = act_methods.find(Search(ends, potential, action, row, stream(seed), checkpoints, stop))
    measures = measure(found.path, potential, frames)
    numbers = numbers_of(found, measures, Window(ends, potential, None), action)
    kept = {name: getattr(measures, name) for name in ("time", "position", "velocity", "total_energy")}
    atomic.write_npz(out / "path.npz", kept)
    told = {name: value for name, value in numbers.items() if not name.startswith("rmsd")}
    atomic.write_json(out / "metrics.json", {"method": action.method, **told})
    provenance.write_manifest(
        out, {**settings, "frames": frames, **action.model_dump(mode="json")}, started, {"seed": seed}
    )
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return line(ends, told, out)


def line(ends: Ends, numbers: dict, out: Path) -> str:
    """What was found, in one line: a path that is not Newtonian is called so."""
    residual, arrived = numbers["residual_per_atom"], numbers["arrival"]
    missed = "blows up" if arrived is None else f"misses the end by {arrived:.2e}"
    told = f"residual {residual:.2e} an atom; Verlet from its start {missed}; {numbers['seconds']:.3g} s"
    what = f"{ends.atoms} atoms, T = {ends.time:g}"
    if numbers["verified"]:
        return f"{what}: a Newtonian path, {told}; {out / 'path.npz'}"
    if numbers["newtonian"]:
        return f"{what}: a path of small residual that Verlet does not confirm, {told}; {out / 'path.npz'}"
    return f"{what}: NOT a Newtonian path, only one of least action, {told}; {out / 'path.npz'}"


def _action(ends: Ends, threads: int) -> Action:
    kind = PositionsOnly if ends.velocity is None else GaussNewton
    return kind(threads=threads)


def _checksum(ends: Ends) -> str:
    digest = hashlib.sha256()
    for values in (ends.position, ends.velocity, ends.box):
        digest.update(b"-" if values is None else values.tobytes())
    return digest.hexdigest()[:16]
