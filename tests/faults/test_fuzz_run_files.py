"""Any run file, any override and any campaign is read, or refused in one line, before anything is written."""

import pytest
import yaml
from hypothesis import strategies as st

from mlmd import config
from mlmd.config import campaign
from tests.faults.damage import ODD, damaged, misplaced
from tests.faults.refusals import outcome
from tests.programs import CHECKOUT, mlmd, tree

RUN_FILES = [
    "quickstart.yaml",
    "search_small.yaml",
    "lj_few_body_small.yaml",
    "least_action.yaml",
    "potentials/small/silicon.yaml",
    "spin_corrections/small/frozen_4.yaml",
    "effective_forces/small/pw.yaml",
]
OPEN = "name: x\nout: o\n"
# Ten names for a list of ten of the one before: written out, a thousand million words.
LISTS = ["&a0 [x, x, x, x, x, x, x, x, x, x]", *(f"&a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 9))]
UNHEARD_OF = [
    *(f"{OPEN}seed: {text}\n" for text in ("!!float ''", "!!int _", "!!bool x", "!!timestamp x", "!!map [1]")),
    *(f"{OPEN}seed: {text}\n" for text in ("!!set x", "!!binary é", "!!python/name:os.system", "0b_", "{<<: 5}", "=")),
    f"{OPEN}seed: {'9' * 5000}\n",
    f"{OPEN}seed: 0x{'f' * 5000}\n",
    f"{OPEN}seed: {':'.join(200 * ['1'])}.5\n",
    f"{OPEN}training: {{systems: {LISTS[0]}, epochs: {LISTS[1]}}}\nmodel: [{', '.join(LISTS[2:])}]\n",
    "name: x\nout: &o [*o]\n",
    f"{OPEN}dataset: &d {{family: *d}}\n",
    "name: x\nout: " + 3000 * "[",
    5000 * "{",
    5000 * "- ",
    f"{OPEN}data: {'d' * 2_000_000}\n",
    OPEN + "".join(f"k{n}: 1\n" for n in range(1000)),
    'name: x\nout: "a\\0b"\n',
    'name: x\nout: "\\ud800"\n',
    'name: x\nout: "a\\nb"\n',
    f"{OPEN}dataset: {{test_systems: 1000000000000}}\n",
    f"{OPEN}model: {{units: 1000000000}}\n",
]


def text_of(name):
    return (CHECKOUT / "jobs/configs" / name).read_text()


def loaded(path, overrides=()):
    try:
        config.load(path, overrides)
    except config.ConfigError as error:
        told = str(error)
    else:
        return
    assert told.startswith((str(path), "--set", "run file"))
    assert len(told) < 2000


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_file_of_other_bytes(here, fuzz, monkeypatch, name):
    # Where the files are that it names.
    monkeypatch.chdir(CHECKOUT)
    path = here / "run.yaml"

    def check(data):
        path.write_bytes(data)
        loaded(path)

    fuzz(check, 8, damaged(text_of(name).encode()))


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_file_of_other_values(here, fuzz, monkeypatch, name):
    monkeypatch.chdir(CHECKOUT)
    path = here / "run.yaml"
    written = yaml.safe_load(text_of(name))
    in_full = yaml.safe_load(config.dump(config.load(CHECKOUT / "jobs/configs" / name)))

    def check(values):
        path.write_text(yaml.safe_dump(values, allow_unicode=True))
        loaded(path)

    fuzz(check, 12, misplaced(written) | misplaced(in_full))


def test_overrides(here, fuzz):
    path = here / "run.yaml"
    path.write_text(OPEN)
    keys = st.sampled_from([key.split()[0] for key, _, _ in config.documented_keys()])
    values = ODD.map(lambda value: yaml.safe_dump(value, default_flow_style=True)) | st.text(max_size=12)
    written = st.tuples(keys, values).map("=".join)
    fuzz(
        lambda overrides: loaded(path, overrides), 60, st.lists(written | st.text(max_size=12), min_size=1, max_size=3)
    )


def test_campaigns(here, fuzz):
    for name in ("one", "other"):
        (here / f"{name}.yaml").write_text(f"name: {name}\nout: runs/all/{name}\ndataset: {{family: newton1d}}\n")
    described = {"name": "all", "out": "runs/all"}
    described["runs"] = [{"run": "one", "candidate": True}, {"run": "other", "candidate": False, "operator": "b"}]
    path = here / campaign.FILE

    def check(data):
        path.write_bytes(data if isinstance(data, bytes) else yaml.safe_dump(data, allow_unicode=True).encode())
        try:
            campaign.load(here)
        except config.ConfigError as error:
            told = str(error)
        else:
            return
        assert told.startswith(str(here))

    fuzz(check, 25, misplaced(described) | damaged(yaml.safe_dump(described).encode()))


@pytest.mark.parametrize("text", UNHEARD_OF, ids=range(len(UNHEARD_OF)))
def test_what_no_one_writes_by_hand_is_refused_in_a_line(here, text):
    (here / "run.yaml").write_bytes(text.encode())
    before = tree(here)
    code, printed = outcome("generate", "run.yaml", "--task", "0", "--tasks", "1")
    assert code == 2
    assert printed.startswith("mlmd: run.yaml: ")
    assert printed.count("\n") == 1
    assert len(printed) < 2500
    assert tree(here) == before


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", OPEN.encode() + b"seed: -1\n"])
def test_the_installed_program_says_so_too(here, data):
    (here / "run.yaml").write_bytes(data)
    done = mlmd(["status", "run.yaml"], here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mlmd: run.yaml: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["run.yaml"]
