"""What the searches of `act` have come to: one line a row, and the best path of each window."""

import csv
import io
import math

from hpc import atomic, ledger, provenance
from mlmd.config import Run
from mlmd.stages import act_rows, layout

# Of a table on the command line; table.csv has all.
MOST_LINES = 50
SHOWN = ("action_per_coordinate", "rmsd", "energy_percent", "arrival", "seconds", "verlet_seconds")
TITLES = ("path", "action", "rmsd", "energy %", "arrival", "seconds", "Verlet", "Newtonian")


def finish(run: Run, table: ledger.Ledger, started: float) -> str:
    """Writes what the searches have come to once each was tried; returns it as a text either way."""
    records = table.records()
    done = paths(table.items, records)
    failed = {table.items[item]["name"]: why for item, why in table.failures().items()}
    skipped = sum(path["skipped"] for path in done)
    told = f", {skipped} of them without a path" if skipped else ""
    lines = [f"{len(done)} of {len(table.items)} searches are done{told}", *_lines(done)]
    lines += [f"{name} failed: {why}" for name, why in list(failed.items())[:MOST_LINES]]
    if len(records) < len(table.items):
        return "\n".join([*lines, f"{layout.act(run) / 'best.json'} is written when none is left"])
    atomic.write_text(layout.act(run) / "table.csv", _csv(done))
    best = [{key: path.get(key) for key in path if key != "digest"} for path in best_of(done)]
    atomic.write_json(layout.act(run) / "best.json", {"schema": 1, "best": best, "failed": failed})
    provenance.write_manifest(
        layout.act(run), run.settings(), started, {"seed": run.seed}, items=len(table.items), failed=len(failed)
    )
    return "\n".join([*lines, f"compared in {layout.act(run) / 'table.csv'}, the best in best.json beside it"])


def paths(items: list[dict], records: dict[int, dict]) -> list[dict]:
    """Rows that are done with what is recorded of them, those of a window together, the least residual action first."""
    done = [
        {**row, **{key: value for key, value in record.items() if key not in ("item", "status", "time")}}
        for item, row in enumerate(items)
        if (record := records.get(item, {})).get("status") == "completed"
    ]
    order = {group: place for place, group in enumerate(dict.fromkeys(act_rows.group(row) for row in items))}
    return sorted(done, key=lambda path: (order[act_rows.group(path)], path["skipped"], _action(path)))


def best_of(done: list[dict]) -> list[dict]:
    """The path of the least residual action of each window; windows without one are left out."""
    best: dict[tuple, dict] = {}
    for path in done:
        if not path["skipped"] and math.isfinite(_action(path)):
            best.setdefault(act_rows.group(path), path)
    return list(best.values())


def _action(path: dict) -> float:
    action = path.get("action_per_coordinate")
    return math.inf if action is None else action


def _csv(done: list[dict]) -> str:
    """One line a row, one column a name, those of the first rows first."""
    names = list(dict.fromkeys(name for path in done for name in path))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(done)
    return text.getvalue()


def _lines(done: list[dict]) -> list[str]:
    """The paths as a table."""
    shown = [path for path in done if not path["skipped"]][:MOST_LINES]
    if not shown:
        return []
    table = [list(TITLES)]
    for path in shown:
        numbers = ["-" if path[key] is None else f"{path[key]:.2e}" for key in SHOWN]
        table.append([path["name"], *numbers, "yes" if path["newtonian"] else "NO"])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    more = sum(not path["skipped"] for path in done) - len(shown)
    return [*lines, f"and {more} more"] if more > 0 else lines
