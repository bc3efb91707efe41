"""Run files and overrides → plain values. A file or override that is not well formed is a `ConfigError`."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from mlmd.config.base import ConfigError


def read(path: Path, overrides: Sequence[str]) -> dict:
    """The values of a run file, with `overrides` (`section.key=value` texts) applied."""
    try:
        values = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a SafeLoader: plain values only
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are not UTF-8, or a date that is none.
        raise ConfigError(path, "", " ".join(f"is not YAML: {error}".split())) from error
    if not isinstance(values, dict):
        raise ConfigError(path, "", "a run file is a mapping of keys, such as `name: quickstart`")
    for override in overrides:
        _apply(values, override)
    return values


class _Loader(yaml.SafeLoader):
    """Plain YAML values, with `1e-3` read as a number and a key given twice refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"key {', '.join(sorted(twice))} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


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
        values[last] = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader, as above
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError("--set", key, f"{text!r} is not a YAML value") from error
