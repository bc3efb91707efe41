"""Run files and overrides → plain values. A file or override that is not well formed is a `ConfigError`."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlmd.config import paths
from mlmd.config.base import ConfigError

# No one writes more by hand; beyond it a file is another one than was meant.
MOST_BYTES, DEEPEST = 1_000_000, 40
# What constructors raise at a text that its tag, such as !!float, does not fit.
UNFIT = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read(path: Path, overrides: Sequence[str], within: Path | None = None) -> dict:
    """The values of a run file, with `overrides` (`section.key=value` texts) applied.

    within: the folder that paths in the file stay below (see `mlmd.config.paths`); None: they may lead anywhere.
    """
    try:
        values = _parsed(_text(path))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are not UTF-8.
        raise ConfigError(path, "", " ".join(f"is not YAML: {error}".split())) from error
    if not isinstance(values, dict):
        raise ConfigError(path, "", "a run file is a mapping of keys, such as `name: quickstart`")
    if within is not None:
        paths.check(path, values, within, overrides)
    for override in overrides:
        _apply(values, override)
    return values


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError(path, "", f"is no run file: it is longer than {MOST_BYTES:,} bytes")
    return data.decode()


def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Plain YAML values, with `1e-3` read as a number.

    What could only be a slip of the pen is refused with its line: a key given twice, sections deeper than any that
    there are, whole numbers beyond 64 bits, control characters.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"sections and lists are more than {DEEPEST} deep{self.peek_event().start_mark}")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except UNFIT as error:
            raise yaml.YAMLError(f"{_short(node)} is no value of its kind ({error}){node.start_mark}") from error
        if isinstance(value, int) and value.bit_length() > 63:
            raise yaml.YAMLError(f"{_short(node)} is too large a number{node.start_mark}")
        if isinstance(value, str) and CONTROL.search(value):
            raise yaml.YAMLError(f"{_short(node)} has a control character or a line break{node.start_mark}")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        if isinstance(node, yaml.MappingNode):
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            # Lists and mappings are no keys, which PyYAML says.
            counts = Counter(key for key in keys if isinstance(key, Hashable))
            twice = sorted(str(key) for key, count in counts.items() if count > 1)
            if twice:
                raise yaml.YAMLError(f"key {', '.join(twice)} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _short(node: yaml.Node) -> str:
    text = repr(node.value) if isinstance(node, yaml.ScalarNode) else f"this {node.id}"
    return text if len(text) <= 40 else f"{text[:40]}…"


def _apply(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", override, "write it as key=value, such as training.epochs=5")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if section == "cluster" and isinstance(inner, str):
            inner = values[section] = {"kind": inner}
        if not isinstance(inner, dict):
            raise ConfigError("--set", key, f"{section} is a value, not a section")
        values = inner
    try:
        values[last] = _parsed(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError("--set", key, f"{text!r} is not a YAML value") from error
