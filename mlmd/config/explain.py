"""What pydantic found wrong with a run file, in the user's terms."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from mlmd.config.base import ConfigError, Section

# Sections of several kinds: their name → the key that tells the kinds apart, its default, and the kinds.
Unions = Mapping[str, tuple[str, str, Mapping[str, type[Section]]]]

# Where pydantic speaks of Python's types.
IN_USERS_TERMS = {
    "tuple_type": "should be a list, such as [a, b]",
    "too_short": "should have at least one entry",
    "model_type": "should be a section of keys",
    "model_attributes_type": "should be a section of keys",
    "invalid_key": "a key should be a word",
}


def explain(path: Path, error: ValidationError, root: type[Section], unions: Unions) -> ConfigError:
    """The first thing that is wrong; `root` is the schema of the whole file."""
    # A misspelt key first: that the right one is missing follows from it.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where, section = _place(first["loc"], root, unions)
    key = ".".join(map(str, where))
    match first["type"]:
        case "extra_forbidden":
            return ConfigError(path, key, f"unknown key; {_offer(where[-1], section.model_fields)}")
        case "missing":
            return ConfigError(path, key, "is missing and has no default")
        case "union_tag_invalid" | "union_tag_not_found":
            tag, _, kinds = unions[where[0]]
            kind = first["input"][tag]
            return ConfigError(path, f"{key}.{tag}", f"unknown {tag} {kind!r}; {_offer(str(kind), kinds)}")
        case "unused_section":
            return ConfigError(path, first["ctx"]["section"], first["msg"])
    told = IN_USERS_TERMS.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
    return ConfigError(path, key, f"{told}, not {first['input']!r}")


def sections_in(annotation: object) -> list[type[Section]]:
    """Every section that a key of this type can hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]


def _place(location: Sequence[str | int], root: type[Section], unions: Unions) -> tuple[list[str | int], type[Section]]:
    """The keys on the way to an error, and the section that the last one stands in."""
    where, section = [], root
    for place, part in enumerate(location):
        # pydantic names the kind as a step of the way; a user has written no such key.
        if place == 1 and location[0] in unions and part in unions[location[0]][2]:
            section = unions[location[0]][2][part]
            continue
        where.append(part)
        if place + 1 < len(location) and part in section.model_fields:
            section = next(iter(sections_in(section.model_fields[part].annotation)), section)
    return where, section


def _offer(wrong: str | int, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(wrong), list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
