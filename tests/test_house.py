"""The house rules, on the source itself; each rule is shown a breach first, so that none of them sleeps."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import CHECKOUT

PACKAGES = ("hpc", "mlmd")
MOST_LINES, MOST_FUNCTION_LINES, MOST_SLURM_LINES = 400, 60, 25
TOP = {
    *("hpc", "mlmd", "jobs", "containers", "tests", "logs", "runs", "pyproject.toml", "setup.py"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "build", "mlmd.egg-info"),
}

EVERYWHERE = {"numpy"}
NETWORK_AND_FILES = {"zarr", "dask", "distributed", "dask_jobqueue", "dask_mpi", "mpi4py", "horovod"}
# What single rooms of science may import besides.
MORE = {"interfaces": {"ase", "h5py"}, "action": {"scipy"}}
# Modules (the longest prefix that fits counts) → what of this tree and what third-party packages they may import.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    # layer 0
    "hpc.errors": (set(), EVERYWHERE),
    "hpc.atomic": ({"hpc.errors"}, EVERYWHERE),
    "mlmd": (set(), set()),
    "mlmd.fields": (set(), EVERYWHERE),
    "mlmd.units": (set(), EVERYWHERE),
    "mlmd.state": (set(), EVERYWHERE),
    "mlmd.config": ({"mlmd.config"}, {"pydantic", "pydantic_core", "yaml"}),
    # layer 1
    "hpc": ({"hpc"}, EVERYWHERE | NETWORK_AND_FILES),
    "hpc.ranks": ({"hpc"}, EVERYWHERE | NETWORK_AND_FILES | {"tensorflow"}),
    "hpc.training_log": ({"hpc"}, EVERYWHERE | {"tensorflow"}),
    "hpc.training": ({"hpc"}, EVERYWHERE | NETWORK_AND_FILES | {"tensorflow", "keras"}),
    "hpc.descent": ({"hpc"}, EVERYWHERE | {"tensorflow", "keras"}),
    # layer 2
    "mlmd.physics": ({"mlmd.physics", "mlmd.fields", "mlmd.units", "mlmd.state"}, EVERYWHERE | {"numba"}),
    "mlmd.physics.lanes": ({"mlmd.physics"}, {"numba", "llvmlite"}),
    "mlmd.models": (
        {"mlmd.models", "mlmd.physics", "mlmd.fields", "mlmd.units", "mlmd.state"},
        EVERYWHERE | {"numba", "keras"},
    ),
    "mlmd.analysis": (
        {"mlmd.analysis", "mlmd.physics", "mlmd.fields", "mlmd.units", "mlmd.state"},
        EVERYWHERE | {"numba"},
    ),
    "mlmd.analysis.plots": (
        {"mlmd.analysis", "mlmd.fields", "mlmd.units", "mlmd.state"},
        EVERYWHERE | {"matplotlib"},
    ),
    # layer 3
    **{
        f"mlmd.{room}": (
            {f"mlmd.{room}", "mlmd.physics", "mlmd.models", "mlmd.analysis"}
            | {"mlmd.fields", "mlmd.units", "mlmd.state", "mlmd.config"},
            EVERYWHERE | {"numba"} | MORE.get(room, set()),
        )
        for room in ("datasets", "rollout", "action", "interfaces")
    },
    # layer 4
    "mlmd.stages": ({"hpc", "mlmd"}, EVERYWHERE | {"tqdm"}),
    "mlmd.stages.report": ({"hpc", "mlmd"}, EVERYWHERE | {"jinja2", "matplotlib"}),
    "mlmd.stages.reproduce": ({"hpc", "mlmd"}, EVERYWHERE | {"jinja2"}),
    "mlmd.stages.studies_potentials.training": ({"hpc", "mlmd"}, EVERYWHERE | {"keras", "tensorflow", "scipy"}),
    # layer 5
    "mlmd.cli": ({"hpc", "mlmd.stages", "mlmd.config", "mlmd.doctor"}, {"click"}),
    "mlmd.doctor": ({"hpc", "mlmd.stages", "mlmd.config"}, set()),
}
# The environment is read where jobs, ranks and users are, not in science.
SCIENCE = ("physics", "models", "analysis", "datasets", "rollout", "action", "interfaces")
OUTER = ("mlmd.cli", "mlmd.doctor")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = CHECKOUT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Every module that is imported, wherever it stands; `from package import module` as package.module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if base.split(".")[0] in PACKAGES and is_module(whole) else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            # By a name in a string, or, where the name is looked up, by any string of the file that names a module.
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value
            else:
                yield from (text for text in texts(tree) if text.split(".")[0] in PACKAGES and is_module(text))


def texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in allowed)


def layer(module: str) -> tuple[set[str], set[str]]:
    fitting = [name for name in LAYERS if within(module, {name})]
    # The package mlmd itself holds nothing: a room that is not in the table is an error, not a free pass.
    if not fitting or (module.startswith("mlmd.") and fitting == ["mlmd"]):
        raise AssertionError(f"{module} stands in no layer of the table in this test")
    return LAYERS[max(fitting, key=len)]


def import_breaches(source: str, module: str) -> list[str]:
    inside, outside = layer(module)
    found = []
    for name in imports(ast.parse(source), module):
        top = name.split(".")[0]
        if top in PACKAGES:
            fine = within(name, inside) and not (name in OUTER and module not in OUTER)
        else:
            fine = top in sys.stdlib_module_names or top in outside
        if not fine:
            found.append(f"{module} imports {name}")
    return found


def environment_breaches(source: str, module: str) -> list[str]:
    if not within(module, {f"mlmd.{room}" for room in SCIENCE}):
        return []
    names = ("os.environ", "os.getenv", "os.environb")
    return [f"{module} reads {ast.unparse(n)}" for n in ast.walk(ast.parse(source)) if ast.unparse(n) in names]


def length_breaches(source: str, module: str) -> list[str]:
    lines = source.count("\n")
    found = [f"{module} has {lines} lines"] if lines >= MOST_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length >= MOST_FUNCTION_LINES:
                found.append(f"{module}.{node.name} has {length} lines")
    return found


def docstring_breaches(source: str, module: str) -> list[str]:
    return [] if ast.get_docstring(ast.parse(source)) or not source.strip() else [f"{module} says nothing of itself"]


PICKLING = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
RUNNING_TEXT = {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}


def danger_breaches(source: str, module: str) -> list[str]:
    tree = ast.parse(source)
    found = [f"{module} imports {name}" for name in imports(tree, module) if name.split(".")[0] in PICKLING]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"{module}: an assert is gone under python -O (line {node.lineno})")
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in RUNNING_TEXT:
            found.append(f"{module} calls {ast.unparse(node.func)}")
        for keyword in node.keywords:
            said = (keyword.arg, ast.unparse(keyword.value))
            if said in (("shell", "True"), ("allow_pickle", "True")):
                found.append(f"{module}: {said[0]}={said[1]}")
    return found


def sink_breaches(source: str, module: str) -> list[str]:
    """A catch-all of named arguments that is not handed on by design swallows a misspelt option."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg and not node.args.kwarg.annotation:
            found.append(f"{module}.{node.name} takes **{node.args.kwarg.arg}")
        if isinstance(node, ast.FunctionDef) and node.args.kwarg and node.args.kwarg.arg.startswith("_"):
            found.append(f"{module}.{node.name} throws **{node.args.kwarg.arg} away")
    return found


RULES = {
    "imports": import_breaches,
    "environment": environment_breaches,
    "length": length_breaches,
    "docstring": docstring_breaches,
    "danger": danger_breaches,
    "sinks": sink_breaches,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_rule(rule):
    breaches = [found for path in sources() for found in RULES[rule](path.read_text(), module_name(path))]
    assert breaches == []


def test_the_source_is_found():
    assert {"hpc.store", "mlmd.cli", "mlmd.physics.integrators.verlet", "mlmd.stages"} <= set(
        map(module_name, sources())
    )


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("imports", "hpc.store", "import mlmd.config"),
        ("imports", "hpc.store", "from mlmd import config"),
        ("imports", "hpc.store", "def f():\n    from mlmd.physics import potentials"),
        ("imports", "hpc.store", "import keras"),
        ("imports", "hpc.atomic", "from hpc import store"),
        ("imports", "hpc.errors", "import zarr"),
        ("imports", "hpc.errors", "import hpc.atomic"),
        ("imports", "hpc.schedulers.slurm", "import importlib\nimportlib.import_module('mlmd.config')"),
        ("imports", "mlmd.models", "import importlib\nA = {'a': 'hpc.store'}\nimportlib.import_module(A['a'])"),
        ("imports", "mlmd.fields", "from hpc import errors"),
        ("imports", "mlmd.config.checks", "from mlmd import physics"),
        ("imports", "mlmd.config.checks", "import numpy"),
        ("imports", "mlmd.physics.box", "import hpc"),
        ("imports", "mlmd.physics.box", "from mlmd import config"),
        ("imports", "mlmd.physics.box", "from mlmd.models import lstm_operator"),
        ("imports", "mlmd.models.unet", "import dask.array"),
        ("imports", "mlmd.analysis.dynamics", "import matplotlib.pyplot"),
        ("imports", "mlmd.analysis.plots", "from mpi4py import MPI"),
        ("imports", "mlmd.analysis.spins", "from mlmd.datasets import windows"),
        ("imports", "mlmd.datasets.newton1d", "from hpc import store"),
        ("imports", "mlmd.datasets.newton1d", "from mlmd.stages import layout"),
        ("imports", "mlmd.rollout.guard", "import zarr"),
        ("imports", "mlmd.datasets.spins", "import h5py"),
        ("imports", "mlmd.stages.generate", "import zarr"),
        ("imports", "mlmd.stages.generate", "def f():\n    import dask.distributed"),
        ("imports", "mlmd.stages.generate", "from mlmd import cli"),
        ("imports", "mlmd.cli", "from mlmd import datasets"),
        ("imports", "mlmd.cli", "from mlmd.physics.potentials import POTENTIALS"),
        ("imports", "mlmd.doctor", "import tensorflow"),
        ("environment", "mlmd.physics.box", "import os\nx = os.environ['A']"),
        ("environment", "mlmd.datasets.base", "import os\nx = os.getenv('A')"),
        ("length", "hpc.store", "x = 1\n" * 400),
        ("length", "hpc.store", "def f():\n" + "    x = 1\n" * 59),
        ("length", "hpc.store", "class A:\n    def f(self):\n" + "        x = 1\n" * 59),
        ("docstring", "hpc.store", "import os\n"),
        ("danger", "hpc.store", "import pickle"),
        ("danger", "hpc.store", "from cloudpickle import dumps"),
        ("danger", "hpc.store", "import subprocess\nsubprocess.run('ls', shell=True)"),
        ("danger", "hpc.store", "import numpy as np\nnp.load('x', allow_pickle=True)"),
        ("danger", "hpc.store", "eval('1')"),
        ("danger", "hpc.store", "import os\nos.system('ls')"),
        ("danger", "hpc.store", "def f(x):\n    assert x > 0"),
        ("sinks", "hpc.store", "def f(x, **kwargs):\n    return x"),
        ("sinks", "hpc.store", "def f(x, **_unused: object):\n    return x"),
    ],
)
def test_a_breach_is_seen(rule, module, source):
    assert RULES[rule](source, module) != []


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("imports", "hpc.store", "import zarr\nimport numpy as np\nimport json\nfrom hpc import atomic"),
        ("imports", "mlmd.stages.generate", "from hpc import store\nfrom mlmd import datasets"),
        ("imports", "mlmd.cli", "import click\nfrom mlmd.stages import generate"),
        ("environment", "hpc.arrays", "import os\nx = os.environ['A']"),
        ("length", "hpc.store", "def f():\n" + "    x = 1\n" * 58),
        ("danger", "hpc.store", "import subprocess\nsubprocess.run(['ls'], shell=False)"),
    ],
)
def test_what_is_allowed_is_no_breach(rule, module, source):
    assert RULES[rule](source, module) == []


def test_a_room_that_is_in_no_layer_is_an_error():
    with pytest.raises(AssertionError, match="stands in no layer"):
        layer("mlmd.cellar.wine")


def unexpected(names: set[str]) -> set[str]:
    """What stands at the top besides the rooms and the files of tools."""
    return {name for name in names if name not in TOP and not name.startswith(".")}


def test_nothing_unexpected_stands_at_the_top():
    assert unexpected({path.name for path in CHECKOUT.iterdir()}) == set()
    assert unexpected({"hpc", ".ci", "utils.py", "notes.md"}) == {"utils.py", "notes.md"}


TEXT = {".py", ".md", ".sh", ".slurm", ".yaml", ".yml", ".toml", ".txt", ".html", ".json", ".def", ".cfg", ".csv", ""}
PASSED_OVER = {
    *(".git", ".venv", ".venv-lammps", "runs", "build", "mlmd.egg-info"),
    *(".ruff_cache", ".pytest_cache", ".benchmarks"),
}
# Put together here, so that this file does not hold them.
WORDS_FROM_ELSEWHERE = [
    "/wo" + "rk/",
    "../sha" + "red",
    ".lib" + "rary",
    "cla" + "ude",
    "anthr" + "opic",
    "chat" + "gpt",
]


def words_from_elsewhere(text: str) -> list[str]:
    return [word for word in WORDS_FROM_ELSEWHERE if word in text.lower()]


def our_texts() -> Iterator[Path]:
    for path in sorted(CHECKOUT.rglob("*")):
        parts = path.relative_to(CHECKOUT).parts
        foreign = PASSED_OVER & set(parts) or "__pycache__" in parts or parts[0] == "logs" or path.name == ".gitignore"
        if not foreign and path.is_file() and path.suffix in TEXT:
            yield path


def test_no_text_speaks_of_the_place_it_was_written_at():
    paths = list(our_texts())
    assert CHECKOUT / "hpc" / "store.py" in paths
    assert Path(__file__).resolve() in paths
    found = {str(path): words_from_elsewhere(path.read_text(errors="replace")) for path in paths}
    assert {path: words for path, words in found.items() if words} == {}
    assert words_from_elsewhere("see " + "/Wo" + "rk/" + "notes") == WORDS_FROM_ELSEWHERE[:1]


def too_long(scripts: dict[str, str]) -> list[str]:
    return [name for name, text in scripts.items() if text.count("\n") > MOST_SLURM_LINES]


def test_job_scripts_are_short_and_call_the_program():
    scripts = {path.name: path.read_text() for path in sorted((CHECKOUT / "jobs").glob("*.slurm"))}
    assert {"generate.slurm", "train_lstm.slurm", "rollout_array.slurm", "report.slurm"} <= set(scripts)
    assert too_long(scripts) == []
    assert too_long({"a": "x\n" * 26, "b": "x\n" * 25}) == ["a"]
    for name, text in scripts.items():
        assert "mlmd_run " in text, name
        assert "source jobs/common.sh" in text, name
        assert "--open-mode=append" in text, name
        expected = "logs/%x-%A_%a.out" if "--array" in text.split("source")[0] else "logs/%x-%j.out"
        assert f"#SBATCH --output={expected}\n" in text, name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_a_package_is_a_package(package):
    for folder in sorted({path.parent for path in (CHECKOUT / package).rglob("*.py")}):
        assert (folder / "__init__.py").exists(), folder
