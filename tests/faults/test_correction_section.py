"""The section `correction` of runs on spins: what is refused, in one line, before any work, and what is taken."""

import pytest
import yaml

from mlmd import cli, config
from mlmd.config import MODELS
from tests.faults.refusals import refused, write
from tests.programs import CHECKOUT

SPINS = {"family": "spins", "temperatures": [1.0], "samples": 20, "test_samples": 6}
# Sections besides `dataset: SPINS` and `correction: {}`, changes of the dataset, what the line says.
BAD = [
    ({}, {"size": 5}, "dataset.size: input should be a multiple of 2, not 5"),
    ({"model": {"name": "hdnnp"}}, {}, "model.name: hdnnp corrects no spins; unet and sublattice_turns do"),
    ({"model": {"name": "lstm_operator"}}, {}, "model.name: lstm_operator corrects no spins; unet and"),
    ({"model": {"name": "vnet"}}, {}, "model.name: unknown name 'vnet'; did you mean unet?"),
    (
        {"model": {"name": "sublattice_turns"}},
        {"baseline": "frozen_field"},
        "model.name: sublattice_turns corrects st2_exact, and the dataset's coarse steps are frozen_field",
    ),
    (
        {"model": {"name": "sublattice_turns", "unroll": 3}},
        {"chain": 2},
        "model.unroll: 3 steps on its own output need as many stored; dataset.chain is 2",
    ),
    ({"model": {"unroll": 2}}, {"chain": 2}, "model.unroll: unknown key"),
    ({"model": {"chanels": [4]}}, {}, "model.chanels: unknown key; did you mean channels?"),
    ({"model": {"channels": []}}, {}, "model.channels: should have at least one entry"),
    ({"model": {"channels": [8, 0]}}, {}, "model.channels.1: input should be greater than 0"),
    (
        {"model": {"channels": [4, 4, 4]}},
        {"size": 6},
        "model.channels: 3 levels halve an edge 2 times, and dataset.size is 6; at most 2 fit",
    ),
    ({"model": {"channels": [4] * 4}}, {}, "model.channels: 4 levels halve an edge 3 times, and dataset.size is 4; at"),
    ({"model": {"normalization": "none"}}, {}, "model.normalization: input should be 'range' or 'standard', not"),
    ({"model": {"dtype": "float64"}}, {}, "model.dtype: input should be 'float32', not 'float64'"),
    ({"correction": {"sampels": 5}}, {}, "correction.sampels: unknown key; did you mean samples?"),
    ({"correction": {"samples": 0}}, {}, "correction.samples: input should be greater than 0, not 0"),
    ({"correction": {"augment": "yes"}}, {}, "correction.augment: input should be a valid boolean, not 'yes'"),
    ({"correction": {"compare": []}}, {}, "correction.compare: should have at least one entry"),
    ({"correction": {"compare": 0.1}}, {}, "correction.compare: should be a list, such as [a, b], not 0.1"),
    ({"correction": {"compare": [0.1, 0.1]}}, {}, "correction.compare: name each timestep once"),
    ({"correction": {"fourth_order": [0.1, 0.1]}}, {}, "correction.fourth_order: name each timestep once"),
    (
        {"correction": {"compare": [0.1, 0.03]}},
        {},
        "correction.compare: 0.03 neither goes into dataset.timestep, which is 0.1, nor is a multiple of it",
    ),
    ({"correction": {"fourth_order": [0.25]}}, {}, "correction.fourth_order: 0.25 neither goes into dataset.timestep"),
    ({"correction": {"reference_timestep": 0.03}}, {}, "correction.reference_timestep: 0.03 neither goes into"),
    (
        {"correction": {"reference_timestep": 0.2}},
        {},
        "correction.reference_timestep: 0.2 is longer than dataset.timestep, which is 0.1",
    ),
    (
        {"correction": {"fourth_order": [0.2]}, "rollout": {"time": 0.1}},
        {},
        "correction.fourth_order: 0.2 is longer than rollout.time, which is 0.1",
    ),
    ({"rollout": {"systems": 7}}, {}, "rollout.systems: at most dataset.test_samples, which is 6"),
    ({"rollout": {"time": 0.25}}, {}, "rollout.time: 0.25 is not a multiple of dataset.timestep, which is 0.1"),
    ({"rollout": {"time": 1e-9}}, {}, "rollout.time: 1e-09 is not a multiple of dataset.timestep, which is 0.1"),
    ({"search": {"batch": [8, 16]}}, {}, "search: goes over operators of atoms; give each model of a correction a"),
    ({"fit": {}}, {}, "fit: potentials are trained on configurations, not on data of the family spins"),
    ({"action": {}}, {}, "action: no stage of the family spins reads this section; there are `mlmd generate`, `mlmd t"),
    *(
        ({section: {key: value}}, {}, f"{section}.{key}: is for operators of atoms; a correction has no such thing")
        for section, key, value in [
            ("training", "systems", ["harmonic"]),
            ("training", "strides", [10]),
            ("training", "despite", ["rank"]),
            ("rollout", "validation_systems", 1),
            ("rollout", "directions", ["forward"]),
            ("rollout", "hold_energy", 5),
            ("rollout", "guard", {}),
        ]
    ),
]


@pytest.mark.parametrize(("sections", "changes", "told"), BAD)
def test_a_bad_correction_is_refused_by_name(here, capsys, monkeypatch, sections, changes, told):
    path = write(here, dataset={**SPINS, **changes}, **{"correction": {}, **sections})
    assert f"{path}: {told}" in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize("family", sorted(set(config.DATASETS) - {"spins"}))
def test_nothing_but_spins_is_corrected(here, capsys, monkeypatch, family):
    path = write(here, dataset={"family": family}, correction={})
    told = f"correction: corrections of a timestep are trained on spins, not on data of the family {family}"
    assert told in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize("name", ["unet", "sublattice_turns"])
def test_models_of_spins_are_for_spins_alone(here, capsys, monkeypatch, name):
    line = refused(capsys, monkeypatch, here, "train", write(here, model={"name": name}))
    assert f"model.name: {name} is for datasets of spins, not newton1d" in line
    path = write(here, dataset={"family": "configurations"}, fit={}, model={"name": name})
    assert f"model.name: {name} is no potential; hdnnp and fingerprints are" in refused(
        capsys, monkeypatch, here, "train", path
    )


@pytest.mark.parametrize(("command", "first"), [("train", "generate"), ("verify", "generate")])
def test_a_stage_before_its_predecessor_names_what_to_run_first(here, capsys, monkeypatch, command, first):
    write(here, dataset=SPINS, correction={})
    line = refused(capsys, monkeypatch, here, command, "run.yaml")
    assert f"does not exist or is not finished: run `mlmd {first} run.yaml` first" in line


def test_a_correction_is_by_a_unet_and_rolled_out_on_all_test_samples_where_nothing_is_said(tmp_path):
    run = config.load(write(tmp_path, dataset=SPINS, correction={}))
    assert run.model == MODELS["unet"]()
    assert run.stages == ("generate", "train", "rollout", "report")
    assert (run.rollout.systems, run.rollout.time) == (6, 20.0)
    assert config.load(write(tmp_path, dataset=SPINS, correction={}, model={"channels": [4]})).model.name == "unet"


def test_a_correction_may_run_longer_than_the_stored_trajectories(tmp_path):
    """They are compared with a reference made on the way: of the test samples the starts alone are taken."""
    run = config.load(write(tmp_path, dataset=SPINS, correction={}, rollout={"time": 150.0, "systems": 2}))
    assert (run.rollout.time, run.rollout.systems) == (150.0, 2)


def test_a_section_that_is_nothing_is_no_section(tmp_path):
    run = config.load(write(tmp_path, dataset=SPINS, correction=None))
    assert run.correction is None
    assert run.stages == ("generate",)
    assert set(yaml.safe_load(config.dump(run))) == {"name", "out", "data", "seed", "dataset", "cluster"}


def test_jobs_of_a_correction_train_by_their_own_script_and_are_rolled_out_by_an_array(here, capsys, monkeypatch):
    path = write(here, dataset={**SPINS, "baseline": "frozen_field"}, correction={}, rollout={"tasks": 3})
    monkeypatch.setattr("sys.argv", ["mlmd", "submit", str(path), "--dry-run", "--scheduler", "local"])
    cli.main()
    cost, *scripts = capsys.readouterr().out.split("\n# ")
    assert cost.strip() == (
        "small: a correction of frozen_field steps of 0.1, unet, lattice of 4³ spins, 3 rollout tasks, "
        "by the scheduler 'local'"
    )
    stages = {script.split()[0]: script for script in scripts}
    for stage, name in {"generate": "generate", "train": "train_unet", "rollout": "rollout_array"}.items():
        assert f"submitted.yaml bash {CHECKOUT}/jobs/{name}.slurm" in stages[stage].splitlines()[1]
    assert "# 3 times, MLMD_TASK from 0 to 2" in stages["rollout"]
    assert [file.name for file in here.iterdir()] == ["run.yaml"]
