"""Any run file and any override is either read or refused in one line, before anything is written."""

import pytest
import yaml

from mlmd import config
from tests.faults.damage import damaged, misplaced
from tests.programs import CHECKOUT

RUN_FILES = [
    "quickstart.yaml",
    "search_small.yaml",
    "lj_few_body_small.yaml",
    "least_action.yaml",
    "potentials/small/silicon.yaml",
    "spin_corrections/small/frozen_4.yaml",
    "effective_forces/small/pw.yaml",
]


def text_of(name):
    return (CHECKOUT / "jobs/configs" / name).read_text()


def loaded(path, overrides=()):
    try:
        config.load(path, overrides)
    except config.ConfigError as error:
        assert str(error).startswith((str(path), "--set", "run file"))
        assert len(str(error)) < 2000


@pytest.mark.parametrize("name", RUN_FILES)
def test_bytes(here, fuzz, name):
    def check(data):
        path = here / "run.yaml"
        path.write_bytes(data)
        loaded(path)

    fuzz(check, 30, damaged(text_of(name).encode()))


@pytest.mark.parametrize("name", RUN_FILES)
def test_values(here, fuzz, name):
    def check(values):
        path = here / "run.yaml"
        path.write_text(yaml.safe_dump(values, allow_unicode=True))
        loaded(path)

    fuzz(check, 30, misplaced(yaml.safe_load(text_of(name))))
