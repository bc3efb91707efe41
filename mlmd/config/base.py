"""What every section of a run file shares: strict types, and one kind of error."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict


class ConfigError(ValueError):
    """A run file that cannot be used; the message is one sentence for the user."""

    exit_code = 2

    def __init__(self, source: Path | str, key: str, message: str):
        super().__init__(f"{source}: {key}: {message}" if key else f"{source}: {message}")


class Section(BaseModel):
    """Common behaviour: no unknown key, no silent conversion of types, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


Count = Annotated[int, Field(gt=0)]
Number = Annotated[float, Field(gt=0)]
Names = Annotated[tuple[str, ...], Strict(False)]
Counts = Annotated[tuple[Count, ...], Strict(False), Field(min_length=1)]
Numbers = Annotated[tuple[Number, ...], Strict(False), Field(min_length=1)]
# One number for all, or one for each.
CountOrCounts = Annotated[Counts, BeforeValidator(_as_list)]
