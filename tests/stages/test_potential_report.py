"""The report of a potential: its numbers are those of the model on disk, on what was not trained on."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpc.errors import DamagedItems, MadeFromAnotherConfig, StoreMissing
from mlmd import config, models
from mlmd.analysis import potential_errors
from mlmd.config import ConfigError
from mlmd.interfaces.frames import Configurations
from mlmd.stages import evaluate, layout, potential_parts, potential_report, report, status, submit, verify
from mlmd.state import RunawayAtom
from tests.pages import Page
from tests.stages.tiny_potential import DATASET, FILES, FIT, TRAINING, make, write_run

FOLDER = "a <tiny> run"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A committee of two, and its report."""
    folder = tmp_path_factory.mktemp("it's a potential")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        path = write_run(Path("tiny.yaml"), "tiny", FOLDER, fit={**FIT, "committee": 2})
        make(path, folder)
        report.report(config.load(path))
    return folder


@pytest.fixture
def work(made, tmp_path, monkeypatch):
    """A copy of it, where the process is."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def metrics(made):
    return json.loads((made / FOLDER / "metrics.json").read_text())


def test_errors_are_those_of_the_model_on_its_files(made, metrics):
    potential = models.load_potential(made / FOLDER / "model")
    assert len(potential.members) == 2
    read = {Path(name).stem: evaluate.read(Path(name), potential) for name in FILES}
    read["held_out"] = Configurations(tuple(frame for one in read.values() for frame in one.frames))
    for name, configurations in read.items():
        found = potential_errors.numbers(evaluate.errors_of(potential, configurations), "metal")
        assert found["energy_mev_per_atom"] > 0
        for key, value in found.items():
            assert metrics[f"{name}/{key}"] == value, (name, key)
    crystal, liquid, both = (metrics[f"{name}/force_mev_per_angstrom"] for name in read)
    assert both == pytest.approx(np.sqrt(0.5 * (crystal**2 + liquid**2)))


def test_validation_runs_are_what_training_left_out_and_logged(made, metrics, monkeypatch):
    """What the log says of one member while it trained in single precision, the exported one does."""
    monkeypatch.chdir(made)
    run = config.load(Path("tiny.yaml"))
    # One run of each state, of three frames.
    assert metrics["validation/frames"] == 6
    for member in range(2):
        folder = layout.potential(run, member)
        with (folder / "log.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
        one = models.load_potential(folder)
        found = evaluate.errors_of(one, potential_parts.parts(run, one)["validation"])
        assert found.energy_rmse**2 == pytest.approx(float(last["validation_energy_square"]), rel=1e-3)
        assert found.force_rmse**2 == pytest.approx(float(last["validation_force_square"]), rel=1e-3)
    lines, curves = potential_report.trainings(run, "metal")
    assert [line["epochs"] for line in lines] == [TRAINING["epochs"]] * 2
    assert lines[1]["energy_last"] == pytest.approx(1e3 * found.energy_rmse, rel=1e-3)
    assert curves["member 1"]["force"][-1] == lines[1]["force_last"]


def test_a_short_run_conserves_what_the_potential_calls_energy(metrics):
    assert metrics["nve/temperature"] == 1800.0
    assert metrics["nve/time"] == pytest.approx(2.0)
    assert metrics["nve/reference/rms_ev_per_atom"] < 1e-3
    assert metrics["nve/rms_ev_per_atom"] < 1e-2
    assert 1.5 < metrics["nve/reference/closest"] < 2.5
    assert metrics["nve/extrapolated_per_atom_step"] >= 0


def test_a_committee_tells_how_far_it_disagrees(metrics):
    for part in ("validation", "si64_crystal", "si64_liquid"):
        assert -1 <= metrics[f"committee/{part}/rank_correlation"] <= 1
        assert metrics[f"committee/{part}/error_over_disagreement"] > 0


def test_the_page_is_whole_and_loads_nothing(made):
    path = made / FOLDER / "report.html"
    page = Page.of(path)
    assert page.open == page.links == []
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    drawn = {file.stem for file in (made / FOLDER / "figures").glob("*.png")}
    assert drawn == {"parity", "energy", "disagreement", "learning_curves"}
    text = path.read_text()
    assert "model/member0/manifest.json" in text
    (network,) = models.load_potential(made / FOLDER / "model" / "member0").networks
    assert f"Si: layers of {network.kernels[0].shape[1]}, 1." in text


def test_dynamics_that_blows_up_is_told_and_the_rest_stands(work, metrics, monkeypatch):
    original = potential_report.total_energies

    def wild(potential, *more):
        if hasattr(potential, "extrapolations"):
            raise RunawayAtom(None, 3, 17, 5.0)
        return original(potential, *more)

    monkeypatch.setattr(potential_report, "total_energies", wild)
    values = report.report(config.load(Path("tiny.yaml")))
    told = json.loads(Path(FOLDER, "published.json").read_text())["not_finite"]
    assert values["nve/rms_ev_per_atom"] is None
    assert "atom 3 moved by 5 at step 17" in told["nve/rms_ev_per_atom"]
    assert "atom 3 moved by 5" in Path(FOLDER, "report.html").read_text()
    assert values["nve/reference/rms_ev_per_atom"] == metrics["nve/reference/rms_ev_per_atom"]
    assert values["held_out/energy_mev_per_atom"] == metrics["held_out/energy_mev_per_atom"]


def test_ice_stands_apart_from_water(work):
    water = write_run(
        Path("water.yaml"), "water", "water", dataset={**DATASET, "material": "mw_water", "melt_temperature": 6000.0}
    )
    silicon = config.load(Path("tiny.yaml"))
    frames = Configurations((object(),))
    given = {"validation": frames, "mw64_ice_ic": frames, "mw216_liquid_rho0997": frames, "slice": frames}
    sizes = {name: len(one.frames) for name, one in potential_parts.pooled(config.load(water), given).items()}
    assert sizes == {"ice": 1, "held_out": 2}
    assert set(potential_parts.pooled(silicon, given)) == {"held_out"}


def test_what_is_not_there_or_of_another_run_is_refused(work):
    path = Path("tiny.yaml")
    other = config.load(path, ["training.epochs=5"])
    with pytest.raises(MadeFromAnotherConfig, match=r"training\.epochs: 4 there, 5 here"):
        report.report(other)
    # What is measured afterwards is no condition of a training.
    report.report(config.load(path, ["fit.test_files=[]"]))
    assert "held_out/energy_mev_per_atom" not in json.loads(Path(FOLDER, "metrics.json").read_text())
    Path(FOLDER, "model/member1/model.json").unlink()
    with pytest.raises(StoreMissing, match=r"member1/model\.json does not exist.*mlmd train"):
        report.report(config.load(path))
    bare = {key: value for key, value in json.loads(path.read_text()).items() if key in ("name", "out", "dataset")}
    path.write_text(json.dumps(bare))
    with pytest.raises(ConfigError, match="fit: is missing"):
        report.report(config.load(path))


def test_test_files_are_there_and_are_not_trained_on(work):
    path = write_run(Path("bad.yaml"), "bad", "bad", fit={"test_files": ["absent.npz"]})
    with pytest.raises(ConfigError, match=r"fit\.test_files: there is no absent\.npz"):
        config.load(path)
    write_run(path, "bad", "bad", fit={"files": FILES[:1], "test_files": FILES})
    with pytest.raises(ConfigError, match=r"fit\.test_files: si64_crystal\.npz is among fit\.files"):
        config.load(path)


# The stages around it


def test_status_tells_how_far_the_potentials_are(work):
    run = config.load(Path("tiny.yaml"))
    told = status.status(run).splitlines()
    assert "train     2 potentials: 2 completed" in told
    assert told[-1].endswith("report.html")
    Path(FOLDER, "model/member1/model.json").unlink()
    told = status.status(run)
    assert "2 potentials: 1 completed, 1 eligible" in told
    assert "model/member1: epoch 4 of 4" in told


def test_verify_reads_potentials_again_and_repair_marks_damaged_ones(work):
    run = config.load(Path("tiny.yaml"))
    assert "train: 2 of 2 potentials finished, all as they were written" in verify.verify(run, "mlmd verify", False)
    file = Path(FOLDER, "model/member1/weights.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedItems, match="items 1 do not hold what was written"):
        verify.verify(run, "mlmd verify", False)
    assert "potentials 1 were damaged" in verify.verify(run, "mlmd verify", True)
    assert not Path(FOLDER, "model/member1/model.json").exists()
    assert Path(FOLDER, "model/member0/model.json").exists()


def test_jobs_train_potentials_by_their_own_script_and_find_their_files(work):
    shutil.copy(FILES[0], work / "own.npz")
    path = write_run(Path("more.yaml"), "more", "more", fit={"files": ["own.npz"], "committee": 3})
    run = config.load(path)
    assert run.stages == ("generate", "train", "report")
    assert submit.spec_of(run, "train", ()).script.name == "train_potential.slurm"
    assert submit.settled(run).fit.files == (str((work / "own.npz").resolve()),)
    assert submit.settled(run).fit.committee == 3
