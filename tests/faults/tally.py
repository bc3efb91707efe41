"""The table of faults: what was tried, how often, what was lost and what was done twice.

A fault test calls `note` for each fault that it has tried. With MLMD_TALLY=FILE set the notes are kept there, and

    python -m tests.faults.tally FILE

prints them as a table, notes of the same fault added up.
"""

import json
import os
import sys
from pathlib import Path


def note(fault: str, tried: int, lost: int, redone: int) -> None:
    """Keeps one line; the caller asserts what it promises of these numbers itself.

    tried: how often the fault was brought about. lost: units of work that were recorded as finished and were not there,
    or not the same, afterwards. redone: units that were finished more than once.
    """
    file = os.environ.get("MLMD_TALLY")
    if file:
        with Path(file).open("a") as notes:
            notes.write(json.dumps({"fault": fault, "tried": tried, "lost": lost, "redone": redone}) + "\n")


def table(file: Path) -> str:
    """All notes of a file, one row a fault, in the order in which they first came."""
    rows: dict[str, list[int]] = {}
    for line in file.read_text().splitlines():
        found = json.loads(line)
        row = rows.setdefault(found["fault"], [0, 0, 0])
        for place, what in enumerate(("tried", "lost", "redone")):
            row[place] += found[what]
    head = ["| fault | times tried | finished work lost | finished work done twice |", "|---|---|---|---|"]
    return "\n".join(head + [f"| {fault} | {' | '.join(map(str, row))} |" for fault, row in rows.items()])


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
