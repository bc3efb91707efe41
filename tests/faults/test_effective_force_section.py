"""The section `effective_force`: what is refused, in one line, before any work, and what is taken."""

import pytest
import yaml

from mlmd import cli, config
from mlmd.config import MODELS
from tests.faults.refusals import refused, write
from tests.programs import CHECKOUT

DATA = {"family": "lj2d", "temperatures": [0.5], "samples": 20, "test_samples": 6}
PRIOR = "lennard_jones"
FOLDERS = sorted((CHECKOUT / "jobs" / "configs" / "effective_forces").iterdir())
# Sections besides `dataset: DATA` and `effective_force: {}`, changes of the dataset, what the line says.
BAD = [
    ({"model": {"name": "hdnnp"}}, {}, "model.name: hdnnp is no effective force; pw, mb, pw_mb and pw_energy are"),
    ({"model": {"name": "unet"}}, {}, "model.name: unet is no effective force; pw, mb, pw_mb and pw_energy are"),
    ({"model": {"name": "pw_enrgy"}}, {}, "model.name: unknown name 'pw_enrgy'; did you mean pw_energy?"),
    (
        {"model": {"unroll": 4}},
        {"chain": 3},
        "model.unroll: 4 chained steps need as many stored; dataset.chain is 3",
    ),
    ({"model": {"unroll": 0}}, {}, "model.unroll: input should be greater than 0, not 0"),
    ({"model": {"hiden": 4}}, {}, "model.hiden: unknown key"),
    ({"model": {"name": "pw", "hiden": 4}}, {}, "model.hiden: unknown key; did you mean hidden?"),
    ({"model": {"name": "pw", "units": 4}}, {}, "model.units: unknown key"),
    ({"model": {"name": "mb", "momentum": False}}, {}, "model.momentum: unknown key"),
    (
        {"model": {"name": "pw", "stages": 2}},
        {},
        "model.prior: none goes with one stage; more of them make a step of the atoms' own forces, lennard_jones",
    ),
    ({"model": {"name": "mb", "stages": 2}}, {}, "model.prior: none goes with one stage; more of them make a step of"),
    ({"model": {"name": "pw_mb", "stages": 2}}, {}, "model.prior: none goes with one stage; more of them make"),
    (
        {"model": {"name": "pw", "hidden": 0}},
        {},
        "model.hidden: without units and without a prior there is no force; use 64",
    ),
    ({"model": {"name": "mb", "units": 0}}, {}, "model.units: input should be greater than 0, not 0"),
    ({"model": {"name": "mb", "grid": 0.0}}, {}, "model.grid: input should be greater than 0, not 0"),
    ({"model": {"name": "pw", "prior": "morse"}}, {}, "model.prior: input should be 'none' or 'lennard_jones', not"),
    ({"model": {"prior": "none"}}, {}, "model.prior: input should be 'lennard_jones', not 'none'"),
    ({"model": {"mirrored": False}}, {}, "model.mirrored: input should be True, not False"),
    ({"model": {"stages": 17}}, {}, "model.stages: input should be less than or equal to 16, not 17"),
    ({"model": {"dtype": "float16"}}, {}, "model.dtype: input should be 'float32' or 'float64', not 'float16'"),
    ({"effective_force": {"sampels": 5}}, {}, "effective_force.sampels: unknown key; did you mean samples?"),
    ({"effective_force": {"samples": 0}}, {}, "effective_force.samples: input should be greater than 0, not 0"),
    (
        {"effective_force": {"energy_weight": -1}},
        {},
        "effective_force.energy_weight: input should be greater than or equal to 0, not -1",
    ),
    ({"effective_force": {"compare": []}}, {}, "effective_force.compare: should have at least one entry"),
    ({"effective_force": {"compare": [0.01, 0.01]}}, {}, "effective_force.compare: name each timestep once"),
    (
        {"effective_force": {"compare": [0.02]}},
        {},
        "effective_force.compare: has no 0.01, with which distance and cost are compared; add it",
    ),
    (
        {"effective_force": {"compare": [0.01, 0.03]}},
        {},
        "effective_force.compare: 0.03 does not go into dataset.large_timestep, which is 0.1, a whole number of times",
    ),
    (
        {"effective_force": {"compare": [0.01, 0.2]}},
        {},
        "effective_force.compare: 0.2 does not go into dataset.large_timestep, which is 0.1, a whole number of times",
    ),
    (
        {"effective_force": {"reference_timestep": 0.03}},
        {},
        "effective_force.reference_timestep: 0.03 does not go into dataset.large_timestep, which is 0.1",
    ),
    (
        {"effective_force": {"statistics_timestep": 0.003}},
        {},
        "effective_force.statistics_timestep: 0.003 does not go into dataset.large_timestep, which is 0.1",
    ),
    (
        {"effective_force": {"reference_time": 0.25}},
        {},
        "effective_force.reference_time: 0.25 is not a multiple of dataset.large_timestep, which is 0.1",
    ),
    (
        {"effective_force": {"reference_time": 10.0}, "rollout": {"time": 5.0}},
        {},
        "effective_force.reference_time: 10 is longer than rollout.time, which is 5",
    ),
    ({"rollout": {"time": 10.05}}, {}, "rollout.time: 10.05 is not a multiple of dataset.large_timestep, which is 0.1"),
    ({"rollout": {"time": 1e-9}}, {}, "rollout.time: 1e-09 is not a multiple of dataset.large_timestep, which is 0.1"),
    ({"rollout": {"systems": 7}}, {}, "rollout.systems: at most dataset.test_samples, which is 6"),
    (
        {},
        {"cutoff": 3.0, "shift": "constant"},
        "dataset.shift: constant moves no force; effective forces are trained with none",
    ),
    ({}, {"cutoff": 3.0, "densities": [0.1, 0.5]}, "dataset.cutoff: 3 is longer than half of the smallest box's edge"),
    ({"search": {"batch": [8, 16]}}, {}, "search: goes over operators; give each model of an effective force a run"),
    ({"fit": {}}, {}, "fit: potentials are trained on configurations, not on data of the family lj2d"),
    ({"correction": {}}, {}, "correction: corrections of a timestep are trained on spins, not on data of the family"),
    ({"action": {}}, {}, "action: no stage of the family lj2d reads this section; there are `mlmd generate`, `mlmd t"),
    *(
        ({section: {key: value}}, {}, f"{section}.{key}: is for operators; effective forces have no such thing")
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
def test_a_bad_effective_force_is_refused_by_name(here, capsys, monkeypatch, sections, changes, told):
    path = write(here, dataset={**DATA, **changes}, **{"effective_force": {}, **sections})
    assert f"{path}: {told}" in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize("family", sorted(set(config.DATASETS) - {"lj2d"}))
def test_effective_forces_are_for_two_dimensions_alone(here, capsys, monkeypatch, family):
    path = write(here, dataset={"family": family}, effective_force={})
    told = f"effective_force: effective forces are trained on data of lj2d, not on data of the family {family}"
    assert told in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize("name", ["pw", "mb", "pw_mb", "pw_energy"])
def test_models_of_forces_are_for_two_dimensions_alone(here, capsys, monkeypatch, name):
    for sections, told in (
        ({}, f"{name} is for datasets of lj2d, not newton1d"),
        ({"dataset": {"family": "spins"}, "correction": {}}, f"{name} corrects no spins; unet and sublattice_turns do"),
        ({"dataset": {"family": "configurations"}, "fit": {}}, f"{name} is no potential; hdnnp and fingerprints are"),
    ):
        path = write(here, model={"name": name}, **sections)
        assert f"model.name: {told}" in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize("section", ["model", "training", "rollout"])
def test_without_the_section_a_run_is_a_dataset(here, capsys, monkeypatch, section):
    path = write(here, dataset=DATA, **{section: {}})
    assert f"{section}: " in refused(capsys, monkeypatch, here, "train", path)


@pytest.mark.parametrize(
    ("command", "first"), [("train", "generate"), ("verify", "generate"), ("rollout", "train"), ("report", "rollout")]
)
def test_a_stage_before_its_predecessor_names_what_to_run_first(here, capsys, monkeypatch, command, first):
    write(here, dataset=DATA, effective_force={})
    line = refused(capsys, monkeypatch, here, command, "run.yaml")
    assert f"run `mlmd {first} " in line


@pytest.mark.parametrize("sections", [{}, {"model": {"stages": 3}}])
def test_forces_are_gradients_of_pair_energies_where_nothing_is_said(tmp_path, sections):
    run = config.load(write(tmp_path, dataset=DATA, effective_force={}, **sections))
    assert run.model == MODELS["pw_energy"](**sections.get("model", {}))
    assert run.stages == ("generate", "train", "rollout", "report")
    assert (run.rollout.systems, run.rollout.time) == (6, 10.0)
    assert run.effective_force.compare == (0.01, 0.02, 0.025)


def test_it_may_run_longer_than_the_stored_trajectories(tmp_path):
    """Of the test samples the starts alone are taken."""
    run = config.load(write(tmp_path, dataset={**DATA, "test_time": 0.1}, effective_force={}, rollout={"time": 150.0}))
    assert run.rollout.time == 150.0


@pytest.mark.parametrize("model", [{"name": "pw", "stages": 2, "prior": PRIOR, "hidden": 0}, {"name": "mb"}])
def test_what_fits_is_taken(tmp_path, model):
    assert config.load(write(tmp_path, dataset=DATA, effective_force={}, model=model)).model.name == model["name"]


def test_a_section_that_is_nothing_is_no_section(tmp_path):
    run = config.load(write(tmp_path, dataset=DATA, effective_force=None))
    assert run.effective_force is None
    assert run.stages == ("generate",)
    assert set(yaml.safe_load(config.dump(run))) == {"name", "out", "data", "seed", "dataset", "cluster"}


def test_jobs_of_effective_forces_train_by_their_own_script_and_are_rolled_out_by_an_array(here, capsys, monkeypatch):
    path = write(here, dataset=DATA, effective_force={}, rollout={"tasks": 3})
    monkeypatch.setattr("sys.argv", ["mlmd", "submit", str(path), "--dry-run", "--scheduler", "local"])
    cli.main()
    cost, *scripts = capsys.readouterr().out.split("\n# ")
    assert cost.strip() == (
        "small: effective forces for a step of 0.1, pw_energy, 16 atoms, 3 rollout tasks, by the scheduler 'local'"
    )
    stages = {script.split()[0]: script for script in scripts}
    for stage, name in {
        "generate": "generate",
        "train": "train_effective_force",
        "rollout": "rollout_array",
    }.items():
        assert f"submitted.yaml bash {CHECKOUT}/jobs/{name}.slurm" in stages[stage].splitlines()[1]
    assert "# 3 times, MLMD_TASK from 0 to 2" in stages["rollout"]
    assert [file.name for file in here.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_run_files_of_the_campaign_are_taken_and_share_their_data(folder):
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != "campaign.yaml"]
    runs = {path.stem: config.load(path) for path in paths}
    assert {"pw", "mb", "pw_mb", "pw_energy", "pw_published"} <= runs.keys()
    assert len({(run.data, repr(run.dataset)) for run in runs.values()}) == 1
    assert len({run.out for run in runs.values()}) == len(runs)
    assert all(run.effective_force is not None for run in runs.values())
    assert set(yaml.safe_load((folder / "campaign.yaml").read_text())["runs"]) == runs.keys()
