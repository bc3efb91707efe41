"""What the sections `dataset` of all families have in common."""

from dataclasses import dataclass
from typing import ClassVar

from mlmd.config.base import Section

NUMBER_BYTES = 8
# A worker holds what an item stores and as much again while it makes it, measured for newton1d.
COPIES = 2


@dataclass(frozen=True)
class Load:
    """What one work item of a kind holds at most: so many `entries`, each one of `what` and of `numbers` doubles."""

    entries: int
    what: str
    numbers: float

    @property
    def entry_bytes(self) -> float:
        """Memory that one entry takes in a worker."""
        return COPIES * NUMBER_BYTES * self.numbers


@dataclass(frozen=True)
class Windows:
    """The windows in which paths can be sought, of one number of atoms.

    `name` in tables, `place` in the store. A window has the length `time`, or another: where there is a trajectory, a
    shorter one, unless its end is `fixed`; where there are two states alone (no `trajectory`), any.
    """

    name: str
    place: str
    time: float
    trajectory: bool = True
    fixed: bool = False


class Dataset(Section):
    """What the families have in common: the stages of their runs, and the section without which only data are made."""

    wanted: ClassVar[str | None] = None
    stages: ClassVar[tuple[str, ...]] = ("generate",)

    @property
    def operator_systems(self) -> tuple[str, ...]:
        """The systems that operators are trained for, each by its own; none where the family has no such stage."""
        return ()

    def stream_of(self, system: str) -> int:
        """The number of an operator's system in random streams; leaving another system out does not change it."""
        raise NotImplementedError

    def windows_of(self, atoms: int) -> Windows:
        """Where and between which times paths of so many atoms can be sought; for families with the stage act."""
        raise NotImplementedError

    @property
    def loads(self) -> tuple[Load, ...]:
        """One for each kind of work item."""
        raise NotImplementedError

    @property
    def item_bytes(self) -> float:
        """Memory that the largest work item takes in a worker."""
        return max(load.entries * load.entry_bytes for load in self.loads)
