"""What the studies of paths share: runs by what they stand for, and the windows of one."""

from collections.abc import Mapping

from mlmd.config import Run
from mlmd.config.action_campaign import role_of
from mlmd.stages import act_rows, act_windows
from mlmd.stages.act_windows import Window

# The window that rivals and chaos are looked at in, where it is there.
ATOMS = 108


def of_role(runs: Mapping[str, Run], *roles: str) -> dict[str, Run]:
    """The runs that stand for one of these."""
    return {name: run for name, run in runs.items() if role_of(run) in roles}


def window_of(run: Run, time: float) -> tuple[dict, Window] | None:
    """A row of the run, and its window: of that length, its first system, 108 atoms or the nearest to it."""
    found = [row for row in act_rows.rows(run) if abs(row["time"] - time) < 1e-9]
    if not found:
        return None
    row = min(found, key=lambda row: abs(row["atoms"] - ATOMS))
    return row, act_windows.read(run, row)
