"""Where the paths in a run file may lead. A run file may be somebody else's: it is data, and reaches no further.

Paths are relative to the folder in which a command is typed, and stay below it, also where a link on the way leads
elsewhere. What the user types himself (--set), and everything once he says so (see `mlmd.cli`), may lead anywhere.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlmd.config.base import ConfigError

# Every key whose value names files or folders. Of sbatch's options it is those that hold a path or set variables.
KEYS = ("out", "data", "fit.files", "fit.test_files", "rollout.guard.committee", "cluster.options")
OPTIONS = "cluster.options"
PERMISSION = "MLMD_PATHS=anywhere"
# Variables such as LD_PRELOAD, and commands, would be code; sbatch takes the beginning of an option's name for it.
_CODE = ("--exp", "--wr")


def check(source: Path, values: Mapping, within: Path, overrides: Sequence[str] = (), typeable: bool = True) -> None:
    """Raises ConfigError where a path in a run file leads out of `within`, the folder the command was typed in.

    values: what the file says, without `overrides`, whose keys are the user's own and are passed over. typeable:
    whether the command takes overrides, for the message.
    """
    own = {override.partition("=")[0] for override in overrides}
    for key in KEYS:
        value = _value(values, key)
        if any(key == name or key.startswith(f"{name}.") for name in own):
            continue
        for text in _texts(value):
            if trouble := _trouble(key, text, within.resolve(), source):
                by_hand = f"type it yourself (--set {_typed(key, value)}) or " if typeable else ""
                raise ConfigError(source, key, f"{_shown(text)} {trouble}; if that is meant, {by_hand}set {PERMISSION}")


def permission(source: Path, values: Mapping, within: Path) -> str:
    """What goes before a command with this run file, as it would be typed in `within`: the permission, or nothing."""
    try:
        check(source, values, within)
    except ConfigError:
        return f"{PERMISSION} "
    return ""


def _value(values: Mapping, key: str) -> object:
    """What stands at a key; None where nothing does. What is no section is refused later."""
    found: object = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> Iterator[str]:
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str):
            yield text


def _trouble(key: str, text: str, within: Path, source: Path) -> str | None:
    """What is wrong with a path or option, for a sentence that begins with it; None for a good one."""
    try:
        return _of_option(text, within) if key == OPTIONS else _of_path(key, text, within, source)
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long, a zero byte.
        return f"cannot be followed ({error})"


def _of_path(key: str, text: str, within: Path, source: Path) -> str | None:
    place = within / text
    target = place.resolve()
    # What mlmd itself keeps beside its output names that folder, wherever it is.
    if key == "out" and target == source.resolve().parent:
        return None
    if not target.is_relative_to(within):
        through = "" if target == place or ".." in place.parts else f", to {target}"
        return f"leads out of the folder in which this is typed, {within}{through}"
    inside = place.iterdir() if key in ("out", "data") and place.is_dir() else ()
    for entry in inside:
        if entry.is_symlink() and not entry.resolve().is_relative_to(within):
            return f"holds the link {entry.name}, which leads out of the folder in which this is typed, {within}"
    return None


def _of_option(text: str, within: Path) -> str | None:
    # sbatch takes quotes away, and finds several options in one line.
    for word in re.split(r"[=,\s]+", re.sub(r"[\"'\\]", "", text)):
        if word.startswith(_CODE):
            return "decides what jobs run"
        # The value of a short option may stand at it.
        place = re.sub(r"^-[A-Za-z]", "", word)
        if ("/" in place or ".." in place) and not (within / place).resolve().is_relative_to(within):
            return f"leads out of the folder in which this is typed, {within}"
    return None


def _typed(key: str, value: object) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[\w./+@%~-][\w./+@%~ -]*", value)
    return shlex.quote(f"{key}={value if plain else json.dumps(value, ensure_ascii=False, default=str)}")


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)
