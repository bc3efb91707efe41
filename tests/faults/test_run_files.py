"""Bad input is refused before any work: status 2, one line that says where and what would be right, nothing written."""

from typing import get_args

import pytest
import yaml

from mlmd import cli, config
from tests.faults.refusals import GOOD, refused, write
from tests.programs import CHECKOUT, mlmd

# Numbers that cannot be 8.
BELOW_ONE = ("train_fraction", "dropout", "growth", "tolerance", "newtonian", "cg_tolerance")
IN_A_SECTION = [
    # section, key, value, what the line says besides file and key
    ("training", "epoch", 5, "did you mean epochs?"),
    ("training", "learning_rat", 0.1, "did you mean learning_rate?"),
    ("dataset", "timesteps", 0.1, "did you mean timestep?"),
    ("model", "qqqq", 1, "known here: name, units, window, dropout, residual, unroll, noise, dtype"),
    ("cluster", "worker", 1, "did you mean workers?"),
    ("rollout", "sytems", 1, "did you mean systems?"),
    ("dataset", "timestep", -0.001, "greater than 0, not -0.001"),
    ("dataset", "timestep", 0.0, "greater than 0, not 0.0"),
    ("dataset", "timestep", float("nan"), "finite number, not nan"),
    ("dataset", "timestep", float("inf"), "finite number, not inf"),
    ("dataset", "time", float("-inf"), "finite number"),
    ("training", "learning_rate", float("nan"), "finite number"),
    ("dataset", "timestep", "0.001", "valid number, not '0.001'"),
    ("dataset", "timestep", 1e-310, "dataset.time: 200.0 is over 1e+15 times dataset.timestep, 1e-310"),
    ("dataset", "time", 1e300, "1e+300 is over 1e+15 times dataset.timestep, 0.001"),
    ("dataset", "time", 0.05, "does not divide the 50 steps"),
    ("dataset", "time", 200.00005, "not a whole number of timesteps of 0.001"),
    ("dataset", "stride", 300, "300 does not divide the 200000 steps of dataset.time; the nearest that does is 320"),
    ("dataset", "block", 5000, "5000 systems of 10,000 frames need 3.3 GB in a worker, and cluster.memory is 1GB"),
    ("dataset", "stride", 100.0, "valid integer, not 100.0"),
    ("dataset", "stride", True, "valid integer, not True"),
    ("dataset", "stride", 0, "greater than 0, not 0"),
    ("dataset", "systems", "harmonic", "should be a list, such as [a, b], not 'harmonic'"),
    ("dataset", "systems", [], "at least one entry"),
    ("dataset", "systems", ["harmonc"], "'harmonic', 'double_well', 'lennard_jones' or 'rugged', not 'harmonc'"),
    ("dataset", "systems", ["rugged", "rugged"], "name each system once"),
    ("dataset", "family", "newton2d", "unknown family 'newton2d'; did you mean newton1d?"),
    ("dataset", "family", "gas", "unknown family 'gas'; known here: newton1d, lj_few_body, lj2d, lj_liquid, conf"),
    ("dataset", "family", None, "unknown family None; known here"),
    ("dataset", "family", ["spins"], "unknown family ['spins']; did you mean spins?"),
    ("dataset", "train_fraction", 1.0, "less than 1, not 1.0"),
    ("dataset", "thin", None, "valid integer, not None"),
    ("cluster", "kind", "slrm", "'local', 'slurm' or 'mpi', not 'slrm'"),
    ("cluster", "memory", "lots", "not 'lots'"),
    ("cluster", "workers", 0, "greater than 0, not 0"),
    ("training", "strides", [150], "150 is not a multiple of dataset.stride, which is 100"),
    ("training", "strides", [0], "greater than 0, not 0"),
    ("training", "strides", [100, 100], "name each stride once"),
    ("training", "strides", [100_000], "do not fit into dataset.time"),
    ("training", "strides", 100, "should be a list, such as [a, b], not 100"),
    ("training", "backend", "nccl", "'horovod' or 'mpi', not 'nccl'"),
    ("training", "batch", "256", "valid integer, not '256'"),
    ("model", "residual", "yes please", "valid boolean"),
    ("model", "window", 1, "greater than 1, not 1"),
    ("model", "dropout", 1.0, "less than 1"),
    ("rollout", "systems", 101, "at most dataset.test_systems, which is 100"),
    ("rollout", "time", 2000.0, "at most dataset.test_time, which is 1000.0"),
    ("rollout", "directions", ["sideways"], "'forward' or 'backward', not 'sideways'"),
]


@pytest.mark.parametrize(("section", "key", "value", "told"), IN_A_SECTION)
def test_a_bad_key_is_refused_by_name(here, capsys, monkeypatch, section, key, value, told):
    path = write(here, **{section: {key: value}})
    line = refused(capsys, monkeypatch, here, "generate", path)
    assert str(path) in line
    assert f"{section}.{key}" in line
    assert told in line


@pytest.mark.parametrize(("section", "key", "value", "told"), IN_A_SECTION)
def test_an_override_is_checked_as_the_file_is(here, capsys, monkeypatch, section, key, value, told):
    path = write(here)
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    line = refused(capsys, monkeypatch, here, "generate", path, "--set", f"{section}.{key}={text}")
    assert f"{section}.{key}" in line
    assert told in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nout: o\ntrainning: {epochs: 5}\n", "trainning: unknown key; did you mean training?"),
        ("name: x\nout: o\nzzz: 5\n", "zzz: unknown key; known here: name, out, data, seed, dataset"),
        ("name: x\nout: o\n1: 5\n", "1: a key should be a word"),
        ("name: x\nout: o\ntraining: {2: 5}\n", "training.2: a key should be a word"),
        ("name: x\nout: o\ntraining: 5\n", "training: should be a section of keys, not 5"),
        ("name: x\nout: o\nmodel: 5\n", "model: should be a section of keys, not 5"),
        ("name: x\nout: o\ndataset: {family: spins}\ncorrection: {}\nmodel: 5\n", "model: should be a section of keys"),
        ("name: x\nout: o\ndataset: {family: spins}\ncorrection: 5\n", "correction: should be a section of keys"),
        ("name: x\nout: o\ntraining:\n", "training: should be a section of keys, not None"),
        ("name: x\n", "out: is missing"),
        ("nmae: x\nout: o\n", "nmae: unknown key; did you mean name?"),
        ("name: x\nout: o\ndataset: 5\n", "dataset: should be a section of keys, not 5"),
        ("name: x\nout: o\ndataset:\n", "dataset: should be a section of keys, not None"),
        ("name: x\nout: o\ndataset: {1: 5}\n", "dataset.1: a key should be a word"),
        ("out: o\n", "name: is missing"),
        ('name: x\nout: ""\n', "out: "),
        ("name: a b\nout: o\n", "name: "),
        ("name: ../x\nout: o\n", "name: "),
        ("name: x\nout: 5\n", "out: input should be a valid string, not 5"),
        ("name: x\nout: o\nseed: 1.5\n", "seed: input should be a valid integer, not 1.5"),
        ("name: x\nout: o\nseed: -1\n", "seed: "),
        ("name: x\nout: o\nout: p\n", "key out is given twice"),
        ("name: x\nout: o\nmodel:\n  units: 3\n  units: 4\n", "key units is given twice"),
        ("name: x\nout: o\nmodel: {units: 3}\nmodel: {units: 3}\n", "key model is given twice"),
        ("[1", "is not YAML"),
        ("name: x\n  out: o\n", "is not YAML"),
        ("name: x\n\tout: o\n", "is not YAML"),
        ("name: x\nout: *nowhere\n", "is not YAML"),
        ("name: 2024-13-45\nout: o\n", "is not YAML"),
        ("? [a]\n: 1\n", "is not YAML"),
        ("name: x\0\n", "is not YAML"),
        ('name: x\nout: o\nmodel: !!python/object/apply:os.system ["touch file"]\n', "is not YAML"),
        ("", "a run file is a mapping of keys, such as `name: quickstart`"),
        ("# nothing\n", "a run file is a mapping"),
        ("- name\n- out\n", "a run file is a mapping"),
        ("quickstart", "a run file is a mapping"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(here, capsys, monkeypatch, text, told):
    (here / "run.yaml").write_text(text)
    line = refused(capsys, monkeypatch, here, "generate", "run.yaml")
    assert line.startswith("mlmd: run.yaml: ")
    assert told in line


def test_a_file_that_is_not_text_is_refused(here, capsys, monkeypatch):
    (here / "run.yaml").write_bytes("name: Größe\n".encode("latin-1"))
    assert "run.yaml: is not YAML" in refused(capsys, monkeypatch, here, "generate", "run.yaml")


def test_a_missing_file_and_a_folder_are_refused(here, capsys, monkeypatch):
    assert "nothing.yaml: cannot be read" in refused(capsys, monkeypatch, here, "generate", "nothing.yaml")
    assert "is a directory" in refused(capsys, monkeypatch, here, "generate", here)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "--set: training.epochs: write it as key=value, such as training.epochs=5"),
        ("=5", "--set: =5: write it as key=value"),
        ("training.epochs=[1", "--set: training.epochs: '[1' is not a YAML value"),
        ("training.epochs=2024-99-99", "is not a YAML value"),
        ("training.epochs=", "training.epochs: input should be a valid integer, not None"),
        ("name.first=a", "name is a value, not a section"),
        ("training=5", "training: should be a section of keys, not 5"),
        ("trainin.epochs=5", "trainin: unknown key; did you mean training?"),
        ("training.epochs.more=5", "training.epochs"),
        ("epochs=5", "epochs: unknown key"),
        (".=5", "unknown key"),
    ],
)
def test_a_bad_override_is_refused(here, capsys, monkeypatch, override, told):
    write(here)
    assert told in refused(capsys, monkeypatch, here, "generate", "run.yaml", "--set", override)


@pytest.mark.parametrize("command", ["generate", "rollout"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "1"], "--task and --tasks go together, such as --task 0 --tasks 4"),
        (["--tasks", "4"], "--task and --tasks go together"),
        (["--task", "-1", "--tasks", "4"], "--task"),
        (["--task", "0", "--tasks", "0"], "--tasks"),
        (["--task", "one", "--tasks", "4"], "'one'"),
        (["--task", "4", "--tasks", "4"], "task 4 of 4 does not exist: --task counts from 0 to --tasks minus 1"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_a_share_that_does_not_exist_is_refused(here, capsys, monkeypatch, command, words, told):
    write(here)
    assert told in refused(capsys, monkeypatch, here, command, "run.yaml", *words)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT is not set"),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"}, "SLURM_ARRAY_TASK_ID is 'x'"),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"}, "task 4 of 4 does not exist"),
        ({"SLURM_ARRAY_TASK_ID": "31", "SLURM_ARRAY_TASK_MIN": "7", "SLURM_ARRAY_TASK_COUNT": "2"}, "task 24 of 2"),
        ({"MLMD_TASK": "1"}, "MLMD_TASKS is not set"),
        ({"MLMD_TASK": "1", "MLMD_TASKS": ""}, "MLMD_TASKS is ''"),
        ({"MLMD_TASK": "-1", "MLMD_TASKS": "4"}, "task -1 of 4 does not exist: --task counts from 0"),
    ],
)
def test_a_broken_environment_is_refused_and_does_not_matter_where_the_share_is_told(
    here, capsys, monkeypatch, variables, told
):
    write(here)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert told in refused(capsys, monkeypatch, here, "generate", "run.yaml")
    line = refused(capsys, monkeypatch, here, "generate", "run.yaml", "--task", "4", "--tasks", "4")
    assert "task 4 of 4 does not exist: --task counts from 0 to --tasks minus 1" in line


@pytest.mark.parametrize("command", ["train", "rollout", "report", "verify"])
def test_a_stage_before_its_predecessor_names_what_to_run_first(here, capsys, monkeypatch, command):
    write(here)
    line = refused(capsys, monkeypatch, here, command, "run.yaml")
    assert "does not exist or is not finished: run `mlmd " in line
    first = {"train": "generate", "rollout": "train", "report": "rollout", "verify": "generate"}[command]
    assert f"run `mlmd {first} " in line


def test_status_and_dry_run_write_nothing(here, capsys, monkeypatch):
    path = write(here)
    for words in (["status", path], ["submit", path, "--dry-run", "--scheduler", "local"]):
        monkeypatch.setattr("sys.argv", ["mlmd", *map(str, words)])
        cli.main()
        assert capsys.readouterr().out
        assert [file.name for file in here.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "run.yaml", "--set", "dataset.timestep=-0.001"],
        ["train", "run.yaml", "--set", "training.epoch=5"],
        ["rollout", "run.yaml", "--task", "1"],
        ["submit", "run.yaml", "--scheduler", "pbs"],
        ["generate", "nothing.yaml"],
        ["nothing"],
    ],
)
def test_the_installed_program_refuses_as_well(here, words):
    write(here)
    done = mlmd(words, here)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mlmd: ")
    assert done.stderr.count("\n") == 1
    assert [file.name for file in here.iterdir()] == ["run.yaml"]


RUN_FILES = sorted((CHECKOUT / "jobs" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_the_run_files_that_come_along_are_good(path):
    run = config.load(path)
    assert run.out.startswith("runs/")
    assert run.name.replace("-", "_") == path.stem.replace("-", "_")


def test_what_is_written_out_reads_back_the_same(tmp_path):
    for number, path in enumerate([*RUN_FILES, write(tmp_path)]):
        run = config.load(path, ["seed=7", "cluster.options=[--account=a b]"])
        copy = tmp_path / f"{number}.yaml"
        copy.write_text(config.dump(run))
        assert config.load(copy) == run
        assert config.dump(config.load(copy)) == config.dump(run)


def test_overrides_are_the_same_as_writing_it_in_the_file(tmp_path):
    given = {"training": {"epochs": 5, "strides": [200, 400], "learning_rate": 1e-3}, "cluster": {"kind": "slurm"}}
    short = ["training.epochs=5", "training.strides=[200, 400]", "training.learning_rate=1e-3", "cluster=slurm"]
    plain = write(tmp_path)
    overridden = config.load(plain, short)
    assert overridden == config.load(write(tmp_path, **given))
    assert config.load(write(tmp_path, cluster="slurm"), ["cluster.workers=3"]).cluster.workers == 3
    later = config.load(write(tmp_path), ["seed=1", "seed=2"])
    assert later.seed == 2


def test_numbers_in_any_notation_are_numbers(tmp_path):
    path = tmp_path / "run.yaml"
    for text in ("1e-3", "1.0e-3", "0.001", "+1E-3", "1.e-3", ".001"):
        path.write_text(f"name: x\nout: o\ndataset: {{timestep: {text}}}\n")
        assert config.load(path).dataset.timestep == 0.001


def test_a_loaded_run_does_not_change(tmp_path):
    run = config.load(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        run.dataset.stride = 5


def sections(annotation, prefix):
    """(prefix, section) of everything in a run file that has keys, within each other too."""
    if isinstance(annotation, type) and issubclass(annotation, config.Section):
        yield prefix, annotation
        for key, info in annotation.model_fields.items():
            yield from sections(info.annotation, f"{prefix}{key}.")
    for inner in get_args(annotation):
        yield from sections(inner, prefix)


def test_every_key_has_a_meaning_and_every_section_too():
    found = list(sections(config.Run, ""))
    assert {prefix for prefix, _ in found} >= {"", "dataset.", "dataset.states.", "model.", "training.", "rollout."}
    assert {section for prefix, section in found if prefix == "dataset."} == set(config.DATASETS.values())
    for prefix, section in found:
        assert section.__doc__, prefix
        for key, info in section.model_fields.items():
            assert info.description or sections(info.annotation, key), f"{prefix}{key}"


def _shown(value):
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)


def test_the_list_of_keys_is_complete_and_its_defaults_are_right():
    listed = {key: default for key, default, meaning in config.documented_keys() if meaning}
    expected = {"name": "", "out": "", "data": "none", "seed": "2022", "dataset.family": "newton1d"}
    expected |= {"model.name": "lstm_operator", "action.method": "gauss_newton"}
    fit = config.Run.model_validate({**GOOD, "dataset": {"family": "configurations"}, "fit": {}}).fit.model_dump()
    expected["fit.active"] = ""
    for section, prefix in ((fit.pop("active"), "fit.active"), (fit, "fit")):
        expected |= {f"{prefix}.{key}": _shown(value) for key, value in section.items()}
    expected |= {f"dataset.states.{key} (configurations)": "" for key in ("phase", "temperature", "density")}
    for family in config.DATASETS:
        values = config.Run.model_validate({**GOOD, "dataset": {"family": family}}).settings()
        for section in values.keys() - {"name", "out", "data", "seed", "search", "model"}:
            of = f" ({family})" if section == "dataset" else ""
            shown = {f"{section}.{key}{of}": str(v) if v is not None else "none" for key, v in values[section].items()}
            expected |= {key: default for key, default in shown.items() if not key.startswith("dataset.family")}
    for kind in config.MODELS:
        model = config.Run.model_validate({**GOOD, "model": {"name": kind}}).model.model_dump(mode="json")
        shown = {key: "none" if value is None else str(value) for key, value in model.items() if key != "name"}
        expected |= {f"model.{key} ({kind})": value for key, value in shown.items()}
    for kind, section in config.METHODS.items():
        keys = {key: default for key, default, _ in config.keys_of(section, "")}
        expected |= {f"action.{key} ({kind})": value for key, value in keys.items() if key != "method"}
    # Sections that are there only where they are wanted have no values of their own.
    for prefix, section in sections(config.Run, ""):
        if prefix in ("rollout.guard.", "search.", "correction.", "effective_force."):
            expected |= {f"{prefix}{key}": default for key, default, _ in config.keys_of(section, "")}
    expected = {key: value for key, value in expected.items() if key != "search"}
    assert set(listed) == set(expected)
    # What depends on the material has no default of its own.
    own = {f"dataset.{key} (configurations)" for key in ("states", "cells", "timestep", "melt_temperature")}
    assert listed == {key: "" if key in own else default for key, default in expected.items()}


def test_each_key_of_a_section_reaches_the_run():
    """A key that is read from the file, documented, and then dropped would go unnoticed."""
    for prefix, section in sections(config.Run, ""):
        name = prefix.rstrip(".")
        if name in ("", "dataset.states"):
            continue
        tag = {"dataset": "family", "model": "name", "action": "method"}.get(name)
        own = {tag: section.model_fields[tag].default} if tag else {}
        families = {"action": "lj_liquid", "fit": "configurations", "correction": "spins", "effective_force": "lj2d"}
        others = {"dataset": {"family": families[name]}} if name in families else {}
        if name in ("rollout.guard", "fit.active"):
            continue
        for key, info in section.model_fields.items():
            if info.annotation in (int, float) and key not in BELOW_ONE:
                run = config.Run.model_validate({**GOOD, **others, name: {**own, key: info.annotation(8)}})
                assert getattr(getattr(run, name), key) == 8
