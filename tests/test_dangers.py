"""What is read from disk is data: nothing in the source could run it, and what somebody hides in a file is not run."""

import ast
import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hpc import store
from hpc.checkpoint import Checkpoints
from hpc.errors import DamagedStore
from tests.faults.refusals import run
from tests.test_house import imports, module_name, sources

PICKLING = {"pickle", "_pickle", "cPickle", "pickletools", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
# Functions that run a text, or a command by way of a shell, or make objects as a file asks for them.
RUNNING = {
    *("eval", "exec", "compile", "__import__", "code.interact", "runpy.run_path"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "pty.spawn", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.BaseLoader"),
    *("numpy.lib.format.read_array", "zipfile.ZipFile.extractall", "tarfile.open"),
}
# Wherever they come from: Keras makes layers, and runs the code in them, as a file says. Weights here are npz, and
# what they belong to is said in JSON and looked up in a table.
OF_KERAS = {
    *("load_model", "model_from_json", "model_from_config", "clone_from_config", "deserialize_keras_object"),
    *("enable_unsafe_deserialization", "saved_model", "TFSMLayer", "Lambda"),
}
# Options, and the only value that may stand at them.
OPTIONS = {"shell": "False", "allow_pickle": "False", "safe_mode": "True"}


def danger_breaches(source: str, module: str) -> list[str]:
    tree = ast.parse(source)
    found = [f"{module} imports {name}" for name in imports(tree, module) if name.split(".")[0] in PICKLING]
    aliases = dict(_aliases(tree))
    found += [f"{module} imports {name}" for name in aliases.values() if _is_dangerous(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"{module}: an assert is gone under python -O (line {node.lineno})")
        elif isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            name = aliases.get(first, first) + dot + rest
            # Named at all, called or handed on.
            if _is_dangerous(name):
                found.append(f"{module} names {name} (line {node.lineno})")
        elif isinstance(node, ast.keyword) and ast.unparse(node.value) != OPTIONS.get(
            node.arg, ast.unparse(node.value)
        ):
            found.append(f"{module}: {node.arg}={ast.unparse(node.value)}")
    return found


def _is_dangerous(name: str) -> bool:
    return name in RUNNING or name.rpartition(".")[2] in OF_KERAS


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that imports give, and what is meant by them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_source_keeps_the_rule():
    assert [found for path in sources() for found in danger_breaches(path.read_text(), module_name(path))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import _pickle as p",
        "from cloudpickle import dumps",
        "def f():\n    from marshal import loads",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess\nsubprocess.run('ls', shell=loud)",
        "import subprocess as s\ns.getoutput('ls')",
        "from asyncio import create_subprocess_shell",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=trusted)",
        "import numpy as np\nnp.lib.format.read_array(file)",
        "eval('1')",
        "run = exec",
        "compile(text, 'x', 'exec')",
        "import os\nos.system('ls')",
        "from os import popen as p\np('ls')",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml as y\nclass L(y.Loader):\n    pass",
        "from yaml import unsafe_load as load\nload(text)",
        "import keras\nkeras.models.load_model('x')",
        "from keras.saving import load_model as load\nload('x', safe_mode=True)",
        "import keras\nkeras.saving.deserialize_keras_object(x, safe_mode=False)",
        "import keras\nkeras.config.enable_unsafe_deserialization()",
        "import keras\nkeras.layers.Lambda(f)",
        "import tensorflow as tf\ntf.saved_model.load('x')",
        "def f(x):\n    assert x > 0",
    ],
)
def test_a_breach_is_seen(source):
    assert danger_breaches(source, "hpc.store") != []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import re\nre.compile('x')",
        "import yaml\nclass L(yaml.SafeLoader):\n    pass",
        "import os\nos.execvp('ls', ['ls'])",
    ],
)
def test_what_is_allowed_is_no_breach(source):
    assert danger_breaches(source, "hpc.store") == []


class Hidden:
    """What unpickling it would run."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.fixture
def hidden(tmp_path, monkeypatch) -> Hidden:
    """Something that leaves a mark where it is unpickled, and that does so in this test."""
    monkeypatch.chdir(tmp_path)
    trap = Hidden(tmp_path / "mark")
    pickle.loads(pickle.dumps(trap))
    assert trap.mark.exists()
    trap.mark.unlink()
    return trap


def archive(trap: Hidden, **arrays: np.ndarray) -> bytes:
    np.savez("hidden.npz", position=np.array([trap], dtype=object), **arrays)
    return Path("hidden.npz").read_bytes()


def test_a_pickle_in_a_file_of_arrays_is_not_read(hidden, monkeypatch, capsys):
    archive(hidden)
    assert run(monkeypatch, "act", "--ends", "hidden.npz", "--time", "0.5", "--out", "path") == 2
    told = capsys.readouterr().err
    assert (told.startswith("mlmd: hidden.npz"), told.count("\n")) == (True, 1), told
    assert not hidden.mark.exists()


def test_a_pickle_in_a_checkpoint_is_no_checkpoint(hidden):
    checkpoints = Checkpoints(Path("work"), {})
    checkpoints.save(1, {"weights": np.zeros(2)}, {})
    (path,) = Path("work").iterdir()
    magic = path.read_bytes().partition(b"PK")[0][:-32]
    payload = archive(hidden)
    path.write_bytes(magic + hashlib.sha256(payload).digest() + payload)
    assert checkpoints.load() is None
    assert not hidden.mark.exists()


@pytest.mark.parametrize("version", [2, 3])
def test_a_pickle_in_a_store_is_not_read(hidden, version):
    place = Path("store.zarr")
    store.create(place, {"x": store.ArraySpec((4,), np.dtype(float), 2, {})}, {}, "")
    store.write_item(place, 0, 2, {"x": np.zeros(2)})
    shard = next(file for file in (place / "x" / "c").rglob("*") if file.is_file())
    if version == 3:
        described = json.loads((place / "x" / "zarr.json").read_text())
        described["codecs"][0]["configuration"]["codecs"].insert(0, {"name": "numcodecs.pickle", "configuration": {}})
        (place / "x" / "zarr.json").write_text(json.dumps(described))
    else:
        (place / "x" / "zarr.json").unlink()
        plain = {"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<f8", "order": "C", "fill_value": 0}
        coded = {"compressor": {"id": "zlib", "level": 1}, "filters": [{"id": "pickle", "protocol": 5}]}
        (place / "x" / ".zarray").write_text(json.dumps(plain | coded))
        shard = place / "x" / "0"
    shard.write_bytes(pickle.dumps(hidden))
    with pytest.raises(DamagedStore):
        store.read(place, "x", 0, 2)
    with pytest.raises(DamagedStore):
        store.write_item(place, 0, 2, {"x": np.zeros(2)})
    assert not hidden.mark.exists()


@pytest.mark.parametrize("tag", ["python/object/apply:pathlib.Path.touch", "python/name:os.system", "python/tuple"])
def test_an_object_in_a_run_file_is_not_made(hidden, monkeypatch, capsys, tag):
    Path("run.yaml").write_text(f"name: x\nout: !!{tag} ['{hidden.mark}']\n")
    assert run(monkeypatch, "status", "run.yaml") == 2
    assert run(monkeypatch, "status", "run.yaml", "--set", f"seed=!!{tag} [x]") == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not hidden.mark.exists()
