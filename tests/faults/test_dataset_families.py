"""The section `dataset`, told apart by its family: keys, what must fit together, and stages that there are not."""

import pytest
import yaml

from mlmd import cli, config
from tests.faults.refusals import refused, write

IN_A_FAMILY = [
    # family, other keys, key that the line names, what it says besides
    ("spins", {"temperture": [1.0]}, "temperture", "unknown key; did you mean temperatures?"),
    ("lj2d", {"densties": [0.1]}, "densties", "unknown key; did you mean densities?"),
    ("lj_few_body", {"thin": 2}, "thin", "unknown key; "),
    ("newton1d", {"temperatures": [1.0]}, "temperatures", "unknown key; "),
    (
        "configurations",
        {"states": [{"phase": "liquid", "temprature": 1.0, "density": 0.8}]},
        "states.0.temprature",
        "unknown key; did you mean temperature?",
    ),
    ("configurations", {"states": [{"phase": "liquid", "density": 0.8}]}, "states.0.temperature", "is missing"),
    ("configurations", {"states": [5]}, "states.0", "should be a section of keys, not 5"),
    ("configurations", {"states": [{"phase": "gas"}]}, "states.0.phase", "'crystal' or 'liquid', not 'gas'"),
    ("configurations", {"states": []}, "states", "at least one entry"),
    ("configurations", {"material": "gold"}, "material", "'silica', not 'gold'"),
    (
        "configurations",
        {"material": "silicon", "melt_temperature": 300.0},
        "melt_temperature",
        "300 is below the hottest liquid, 3500",
    ),
    ("configurations", {"melt_time": 0.0101}, "melt_time", "not a whole number of timesteps of 0.004"),
    ("configurations", {"time_between_frames": 1e-4}, "time_between_frames", "not a whole number of timesteps"),
    ("configurations", {"systems": 1}, "systems", "of 1, dataset.train_fraction 0.8 trains on 1; at least one must"),
    ("configurations", {"cells": 3}, "cells", "3 make a box of edge 4.762 at a density of 1, shorter than twice the"),
    ("configurations", {"frames": 10**7}, "block", "1 runs of 256 atoms and 10,000,000 frames need"),
    ("lj_few_body", {"box": 4.9}, "box", "greater than or equal to 5, not 4.9"),
    ("lj_few_body", {"atoms": [3, 3]}, "atoms", "name each number of atoms once"),
    ("lj_few_body", {"atoms": [0]}, "atoms.0", "greater than 0, not 0"),
    ("lj_few_body", {"stride": 300}, "stride", "300 does not divide the 2000000 steps of dataset.time; the nearest"),
    ("lj_few_body", {"test_time": 0.05}, "stride", "100 does not divide the 50 steps of dataset.test_time"),
    ("lj_few_body", {"systems": 1}, "systems", "of 1, dataset.train_fraction 0.8 trains on 1"),
    ("lj_few_body", {"block": 50}, "block", "50 systems of 16 atoms and 20,001 frames need 2.3 GB in a worker"),
    ("lj_few_body", {"smallest_distance": 7.0}, "smallest_distance", "at most half of dataset.box, which is 3"),
    ("lj2d", {"samples": [5, 5]}, "samples", "2 numbers for the 12 of dataset.temperatures; give one for all, or"),
    ("lj2d", {"samples": "many"}, "samples", "should be a list"),
    ("lj2d", {"samples": 10.0}, "samples", "valid integer, not 10.0"),
    ("lj2d", {"samples": True}, "samples", "valid integer, not True"),
    ("lj2d", {"samples": 0}, "samples", "greater than 0, not 0"),
    ("lj2d", {"samples": 2}, "samples", "of 2, dataset.train_fraction 0.8 trains on 2; at least one must"),
    ("lj2d", {"cutoff": 4.0}, "cutoff", "4 is longer than half of the smallest box's edge, 3.244"),
    ("lj2d", {"shift": "exact"}, "shift", "exact needs a dataset.cutoff, and that is none"),
    ("lj2d", {"large_timestep": 0.10005}, "large_timestep", "not a whole number of timesteps of 0.0001"),
    ("lj2d", {"test_time": 0.25}, "test_time", "0.25 is not a whole number of dataset.large_timestep of 0.1"),
    ("lj2d", {"densities": [0.1, 0.1]}, "densities", "name each density once"),
    ("lj2d", {"test_temperatures": [0.3, 0.3]}, "test_temperatures", "name each temperature once"),
    ("lj_liquid", {"cutoff": 2.5}, "cutoff", "2.5 is longer than half of the smallest box's edge, 1.365"),
    ("lj_liquid", {"stride": 30}, "stride", "30 does not divide the 500 steps of dataset.time; the nearest that"),
    ("lj_liquid", {"equilibration_time": 0.0005}, "equilibration_time", "not a whole number of timesteps of 0.001"),
    ("lj_liquid", {"atoms": [16, 16]}, "atoms", "name each number of atoms once"),
    ("spins", {"size": 5}, "size", "multiple of 2, not 5"),
    ("spins", {"size": 2}, "size", "greater than or equal to 4, not 2"),
    ("spins", {"fine_timestep": 0.03}, "timestep", "0.1 is not a whole number of dataset.fine_timestep of 0.03"),
    ("spins", {"fine_timestep": 1e-20}, "timestep", "0.1 is over 1e+15 times dataset.fine_timestep, 1e-20"),
    ("spins", {"test_time": 0.55}, "test_time", "0.55 is not a whole number of timesteps of 0.1"),
    ("spins", {"temperatures": [1.0, 1.0]}, "temperatures", "name each temperature once"),
    ("spins", {"temperatures": [1.0]}, "samples", "17 numbers for the 1 of dataset.temperatures"),
    ("spins", {"fine_order": 3}, "fine_order", "2 or 4, not 3"),
    ("spins", {"baseline": "st2"}, "baseline", "'st2_exact' or 'frozen_field', not 'st2'"),
    ("spins", {"chain": 0}, "chain", "greater than 0, not 0"),
    ("lj_liquid", {"equilibration_timestep": 0.3}, "equilibration_time", "not a whole number of dataset.equil"),
    ("end_states", {"names": ["lj39"]}, "names.0", "'lj500', 'lj38' or 'cluster7', not 'lj39'"),
    ("end_states", {"names": ["lj38", "lj38"]}, "names", "name each problem once"),
    ("end_states", {"timestep": 3e-4}, "time", "0.5 is not a whole number of timesteps of 0.0003"),
    ("end_states", {"stride": 3}, "stride", "3 does not divide the 4000 steps of dataset.time; the nearest that does"),
    ("end_states", {"timestep": 1e-5, "stride": 1}, "stride", "1 problem of 500 atoms and 50,003 frames need 3.3 GB"),
    (
        "spins",
        {"size": 16},
        "block",
        "100 test samples of 200 steps need 5.3 GB in a worker, and cluster.memory is 1GB",
    ),
]


@pytest.mark.parametrize(("family", "keys", "key", "told"), IN_A_FAMILY)
def test_each_family_has_keys_of_its_own_which_must_fit_together(here, capsys, monkeypatch, family, keys, key, told):
    path = write(here, dataset={"family": family, **keys})
    line = refused(capsys, monkeypatch, here, "generate", path)
    assert f"{path}: dataset.{key}" in line
    assert told in line
    # pydantic's name for the family's section is nothing that a user wrote.
    assert f"{family}." not in line


@pytest.mark.parametrize("family", config.DATASETS)
def test_the_defaults_of_every_family_are_good(tmp_path, family):
    run = config.load(write(tmp_path), [f"dataset.family={family}"])
    assert run.dataset == config.DATASETS[family]()
    assert run.dataset.item_bytes > 0


def test_one_number_of_samples_is_that_of_every_temperature(tmp_path):
    run = config.load(write(tmp_path, dataset={"family": "spins", "temperatures": [1.0, 2.0], "samples": 30}))
    assert run.dataset.counts == (30, 30)
    run = config.load(write(tmp_path, dataset={"family": "spins", "temperatures": [1.0, 2.0], "samples": [30, 40]}))
    assert run.dataset.counts == (30, 40)


@pytest.mark.parametrize("material", ["lennard_jones", "silicon", "mw_water", "silica"])
def test_a_material_brings_its_own_states(tmp_path, material):
    data = config.load(write(tmp_path, dataset={"family": "configurations", "material": material})).dataset
    assert {state.phase for state in data.states} == {"crystal", "liquid"}
    hottest = max(state.temperature for state in data.states)
    assert (hottest > 100) == (material != "lennard_jones")
    assert data.melt_temperature > hottest
    own = {"phase": "liquid", "temperature": 1.5, "density": 0.5}
    data = config.load(write(tmp_path, dataset={"family": "configurations", "states": [own], "cells": 4})).dataset
    assert [state.model_dump() for state in data.states] == [own]
    assert data.atoms == 256


# Families that no operators are trained for; without the section that they want they are no more than generated.
GENERATED_ONLY = [family for family, section in config.DATASETS.items() if not section().operator_systems]


@pytest.mark.parametrize("family", GENERATED_ONLY)
@pytest.mark.parametrize("section", ["model", "training", "rollout"])
def test_sections_that_no_stage_reads_are_refused(here, capsys, monkeypatch, family, section):
    path = write(here, dataset={"family": family}, **{section: {}})
    line = refused(capsys, monkeypatch, here, "status", path)
    assert f"{path}: {section}: no stage of the family {family} reads this section; there are `mlmd generate`," in line
    trained = {"configurations": "fit", "spins": "correction", "lj2d": "effective_force"}
    assert (f", and more with a section {trained.get(family)}" in line) == (family in trained)
    path = write(here, dataset={"family": family})
    assert f"{path}: {section}: no stage" in refused(
        capsys, monkeypatch, here, "status", path, "--set", f"{section}.block=1"
    )


@pytest.mark.parametrize("family", GENERATED_ONLY)
@pytest.mark.parametrize("stage", ["train", "rollout", "report"])
def test_stages_that_a_family_does_not_have_are_refused(here, capsys, monkeypatch, family, stage):
    path = write(here, dataset={"family": family})
    line = refused(capsys, monkeypatch, here, stage, path)
    if stage in config.DATASETS[family].stages:
        wanted = config.DATASETS[family].wanted
        trained = f"there is something to {stage} where it says what is trained, such as {wanted}: {{}}"
        assert f"{wanted}: is missing" in line
        assert ("there are no paths to report of" if wanted == "action" else trained) in line
        return
    there = ", ".join(f"`mlmd {name}`" for name in (*config.DATASETS[family].stages, "status"))
    assert f"dataset.family: {family} has no stage {stage}; there are {there}" in line


@pytest.mark.parametrize("family", GENERATED_ONLY)
def test_a_family_that_is_generated_only_has_a_status_and_a_single_job(here, capsys, monkeypatch, family):
    path = write(here, dataset={"family": family})
    monkeypatch.setattr("sys.argv", ["mlmd", "status", str(path)])
    cli.main()
    assert capsys.readouterr().out == "generate  not started\n"
    monkeypatch.setattr("sys.argv", ["mlmd", "submit", str(path), "--dry-run", "--scheduler", "local"])
    cli.main()
    printed = capsys.readouterr().out
    assert f"small: a dataset of the family {family}, by the scheduler 'local'" in printed
    assert [line for line in printed.splitlines() if line in ("# generate", "# train", "# rollout", "# report")] == [
        "# generate"
    ]
    assert "run `mlmd generate " in refused(capsys, monkeypatch, here, "verify", path)


@pytest.mark.parametrize("family", config.DATASETS)
def test_what_is_written_out_of_a_family_reads_back_the_same(tmp_path, family):
    block = ["dataset.block=3"] if "block" in config.DATASETS[family].model_fields else []
    run = config.load(write(tmp_path, dataset={"family": family}), ["seed=7", *block])
    assert (tmp_path / "copy.yaml").write_text(config.dump(run))
    assert config.load(tmp_path / "copy.yaml") == run
    unused = {"model", "training", "rollout"} if family in GENERATED_ONLY else set()
    # A grid to search over, paths to seek, and what is trained besides operators are there only where they are wanted.
    wanted = {"search", "action", "fit", "correction", "effective_force"}
    assert set(yaml.safe_load(config.dump(run))) == set(config.Run.model_fields) - unused - wanted


@pytest.mark.parametrize(
    ("family", "section"), [("configurations", "fit"), ("spins", "correction"), ("lj2d", "effective_force")]
)
def test_a_run_that_trains_is_written_out_without_the_keys_of_operators(tmp_path, family, section):
    run = config.load(write(tmp_path, dataset={"family": family}, **{section: {}}), ["training.epochs=7"])
    (tmp_path / "copy.yaml").write_text(config.dump(run))
    assert config.load(tmp_path / "copy.yaml") == run
    written = yaml.safe_load(config.dump(run))
    assert written["training"]["epochs"] == 7
    assert not {"strides", "systems"} & set(written["training"])
    assert not {"directions", "guard"} & set(written.get("rollout", {}))
