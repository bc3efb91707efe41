"""The numbers of paths of least action, as a flat table name → number, and the published ones beside them.

A path is a line of a run's table: `atoms`, `system`, `time`, `restart`, what its method went over, whether it was
`skipped`, and its numbers. The best path of a window is the one of the least residual action.

    lj<N>/<measure>              our method, T = 0.5, the end velocities given
    published/lj<N>/<measure>    the published method, the same windows
    windows/<T>/<measure>        our method, windows of several lengths
    positions_only/<T>/…         end positions alone, of liquids
    cluster7/…, cluster38/…      end positions alone, of the two published clusters

Published: Wang et al., A Neural Network for Principle of Least Action, and what its public program printed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlmd.analysis import judging
from mlmd.analysis.rollout_metrics import Metrics

PUBLISHED = Path(__file__).parent / "published" / "least_action.json"
TIME = 0.5
MEASURES = ("rmsd", "energy_percent", "seconds", "verlet_seconds")
WHOLE = (
    *("rmsd", "rmsd_velocity", "residual_per_atom", "action_per_coordinate", "energy_percent", "energy_std"),
    *("arrival", "arrival_velocity", "seconds", "verlet_seconds", "steps"),
)


def published() -> dict:
    """The published numbers and where they are from."""
    return judging.published(PUBLISHED)


def of_run(best: Sequence[Mapping]) -> Metrics:
    """`<window>/<system>/<T>/<measure>` of the best path of each window of one run."""
    metrics = Metrics()
    for path in best:
        put_path(metrics, f"{path['of']}/{path['system']}/{path['time']:g}", path, WHOLE)
    return metrics


def put_path(metrics: Metrics, prefix: str, path: Mapping | None, measures: Sequence[str]) -> None:
    """Some numbers of a path; without a path, or one of them, why."""
    for measure in measures:
        value = None if path is None else path.get(measure)
        metrics.put(f"{prefix}/{measure}", value, why_not(path, measure))


def why_not(path: Mapping | None, measure: str) -> str:
    """Why a path has no such number."""
    if path is None:
        return "no search has come to a path"
    if measure.startswith("rmsd"):
        return "there is no reference between these end states"
    if measure.startswith("arrival"):
        return "Verlet from the path's own start blows up"
    return "not a finite number"


def add_sizes(metrics: Metrics, prefix: str, best: Sequence[Mapping], measures: Sequence[str] = MEASURES) -> None:
    """`<prefix>lj<N>/<measure>` of the windows of length 0.5: of each number of atoms the last that is named."""
    chosen = {path["atoms"]: path for path in best if is_published_length(path)}
    for atoms, path in sorted(chosen.items()):
        put_path(metrics, f"{prefix}lj{atoms}", path, measures)


def is_published_length(path: Mapping) -> bool:
    """Whether a path's window is as long as the published one."""
    return abs(path["time"] - TIME) < 1e-9


def add_windows(metrics: Metrics, best: Sequence[Mapping]) -> None:
    """`windows/<T>/<measure>` of windows of several lengths, of the first system that is there."""
    first = {path["time"]: path for path in sorted(best, key=lambda path: -path["system"])}
    for time, path in sorted(first.items()):
        put_path(metrics, f"windows/{time:g}", path, ("rmsd", "energy_percent", "action_per_coordinate", "seconds"))
        metrics.put(f"windows/{time:g}/newtonian", float(path["newtonian"]), "")


def add_positions(metrics: Metrics, paths: Sequence[Mapping], failed: Mapping[float, int]) -> None:
    """`positions_only/<T>/…`, of all searches that were tried to their end; `failed` is T → how many broke off.

    success_rate is verified paths over tries, solved the windows that have one, over all. A search that another ended
    was not tried. residual_per_atom is the least one, also where it is of no Newtonian path.
    """
    for time in sorted({path["time"] for path in paths} | set(failed)):
        own = [path for path in paths if path["time"] == time]
        tried = [path for path in own if not path.get("ended_by")]
        found = [path for path in tried if path.get("verified")]
        tries, prefix = len(tried) + failed.get(time, 0), f"positions_only/{time:g}"
        metrics.put(f"{prefix}/tries", float(tries), "")
        metrics.put(f"{prefix}/success_rate", len(found) / tries if tries else None, "nothing was tried")
        windows = {(path["atoms"], path["system"]) for path in own}
        solved = {(path["atoms"], path["system"]) for path in found}
        metrics.put(f"{prefix}/solved", len(solved) / len(windows) if windows else None, "every search broke off")
        with_path = [path for path in tried if not path["skipped"] and path.get("residual_per_atom") is not None]
        best = min(with_path, key=lambda path: path["residual_per_atom"], default=None)
        put_path(metrics, prefix, best, ("residual_per_atom", "arrival"))
        spent = sum(path.get("seconds") or 0.0 for path in tried)
        metrics.put(f"{prefix}/seconds", spent, "")


def add_clusters(metrics: Metrics, best: Sequence[Mapping], energies: Mapping[int, float]) -> None:
    """`cluster<N>/…` of both clusters; `energies` is atoms → mean total energy per atom along the best path."""
    measures = ("energy_std", "action_per_coordinate", "arrival", "seconds")
    for atoms in (7, 38):
        path = next((path for path in best if path["atoms"] == atoms), None)
        prefix, energy = f"cluster{atoms}", energies.get(atoms)
        put_path(metrics, prefix, path, measures)
        metrics.put(f"{prefix}/energy_per_atom", energy, why_not(path, "energy"))
        spread = None if path is None or not energy else path.get("energy_std")
        percent = None if spread is None else 100.0 * spread / abs(energy)
        metrics.put(f"{prefix}/energy_std_percent", percent, why_not(path, "energy_std"))


def judge(metrics: Metrics, paper: Mapping) -> list[dict]:
    """A record for each published number; see `judging.judge`. Errors, actions and times are to be at most as large."""
    return judging.judge(metrics, paper["numbers"])
