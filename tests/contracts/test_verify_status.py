"""Damage is found, marked and made good byte for byte; `status` tells how far each stage is."""

import re
import shutil
from pathlib import Path

import pytest

from mlmd import config
from mlmd.stages import campaign
from tests.programs import mlmd, tree
from tests.stages.tiny_correction import write_run

RUN_FILE = """
name: checked
out: run
dataset: {systems: [harmonic], time: 20.0, stride: 1000, thin: 100, test_systems: 3, test_time: 20.0, block: 2}
training: {strides: [1000]}
rollout: {systems: 3, time: 20.0}
"""
ITEMS = 5
ALONE = ["--task", "0", "--tasks", "1"]


def run(folder: Path, *words: str, code: int = 0):
    done = mlmd([words[0], "run.yaml", *words[1:]], folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "run.yaml").write_text(RUN_FILE)
    run(folder, "generate", *ALONE)
    return folder


@pytest.fixture
def generated(finished, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def store_of(folder):
    return folder / "run" / "data" / "newton1d.zarr"


def flip(file):
    data = bytearray(file.read_bytes())
    data[5] ^= 4
    file.write_bytes(data)


def flip_inside(file):
    """In the numbers of an archive: at its very beginning stands what nobody reads."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-9])


def test_a_sound_dataset_is_called_sound_and_is_left_alone(generated):
    before = tree(generated)
    for words in (["verify"], ["verify", "--repair"]):
        assert run(generated, *words).stdout.splitlines() == [
            f"generate: {ITEMS} of {ITEMS} items finished, all as they were written",
            "train: nothing finished",
            "rollout: not started",
        ]
    assert tree(generated) == before


@pytest.mark.parametrize(
    ("damage", "shard", "item"),
    [
        (flip, "harmonic/sweep/position/c/1/0/0/0", 1),
        (truncate, "harmonic/sweep/mass/c/2", 2),
        (Path.unlink, "harmonic/test/energy/c/1/0", 4),
    ],
)
def test_a_damaged_block_is_found_marked_and_made_anew(generated, damage, shard, item):
    whole = tree(store_of(generated))
    damage(store_of(generated) / shard)
    damaged = tree(generated)
    refused = run(generated, "verify", code=1)
    assert refused.stdout == ""
    line = refused.stderr.splitlines()[-1]
    assert line.startswith(
        f"mlmd: run/data: items {item} do not hold what was written; `mlmd verify run.yaml --repair`"
    )
    assert tree(generated) == damaged, "verify without --repair changed something"

    assert run(generated, "verify", "--repair").stdout.splitlines()[0] == (
        f"generate: items {item} were damaged and are marked as not done; `mlmd generate` makes them anew"
    )
    status = run(generated, "status").stdout.splitlines()
    assert status[0].split() == ["generate", f"{ITEMS}", "items:", f"{ITEMS - 1}", "completed,", "1", "eligible"]
    assert status[1].split()[-2:] == ["1", "waiting"]
    refused = run(generated, "train", code=2)
    assert "run `mlmd generate run.yaml` first" in refused.stderr

    done = run(generated, "generate", *ALONE)
    assert f"{ITEMS} items, 1 made now" in done.stderr
    assert tree(store_of(generated)) == whole
    run(generated, "verify")


def test_several_damaged_blocks_are_all_named(generated):
    whole = tree(store_of(generated))
    for shard in "02":
        flip(store_of(generated) / f"harmonic/sweep/velocity/c/{shard}/0/0/0")
    assert "items 0, 2 do not hold" in run(generated, "verify", code=1).stderr
    run(generated, "verify", "--repair")
    run(generated, "generate", *ALONE)
    assert tree(store_of(generated)) == whole


def stages(folder):
    """What `mlmd status` says of each stage."""
    lines = run(folder, "status").stdout.splitlines()
    return {line[:10].strip(): re.sub(" +", " ", line[10:].strip()) for line in lines}


def test_status_follows_the_dataset(folder):
    assert stages(folder) == {
        "generate": "not started",
        "train": "1 operators: 0 completed, 1 waiting",
        "rollout": "waiting",
        "report": "not written",
    }
    run(folder, "generate", "--task", "1", "--tasks", "2")
    assert stages(folder)["generate"] == f"{ITEMS} items: 2 completed, 3 eligible"
    assert stages(folder)["train"] == "1 operators: 0 completed, 1 waiting"
    refused = run(folder, "train", code=2)
    assert "run `mlmd generate run.yaml` first" in refused.stderr
    run(folder, "generate", "--task", "0", "--tasks", "2")
    assert stages(folder) == {
        "generate": f"{ITEMS} items: {ITEMS} completed",
        "train": "1 operators: 0 completed, 1 eligible",
        "rollout": "waiting",
        "report": "not written",
    }


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A correction of spins that is trained and rolled out; and what the status was before each of its stages."""
    folder = tmp_path_factory.mktemp("corrected")
    write_run(folder / "run.yaml", "run")
    told = []
    for words in (["generate", *ALONE], ["train"], ["rollout"], ["report"]):
        told.append(stages(folder))
        run(folder, *words)
    return folder, told


def test_status_follows_a_correction_through_its_stages(corrected):
    folder, (first, generated, trained, rolled_out) = corrected
    assert first == {
        "generate": "not started",
        "train": "1 corrections: 0 completed, 1 waiting",
        "rollout": "waiting",
        "report": "not written",
    }
    assert generated["generate"] == "4 items: 4 completed"
    assert generated["train"] == "1 corrections: 0 completed, 1 eligible"
    assert trained["train"] == "1 corrections: 1 completed"
    assert (trained["rollout"], rolled_out["rollout"]) == ("not started", "4 items: 4 completed")
    assert rolled_out["report"] == "not written"
    assert stages(folder)["report"] == "run/report.html"


def test_the_status_of_a_correction_in_training_is_its_epoch(corrected, tmp_path):
    folder = Path(shutil.copytree(corrected[0], tmp_path / "copy"))
    (folder / "run/model/model.json").unlink()
    told = run(folder, "status").stdout.splitlines()
    assert told[1:3] == ["train     1 corrections: 0 completed, 1 eligible", f"{'':10}model: epoch 3 of 3"]


def test_a_correction_stands_for_a_campaign_until_what_it_learned_from_changes(corrected, monkeypatch):
    monkeypatch.chdir(corrected[0])

    def changed(*overrides):
        return config.load(Path("run.yaml"), overrides)

    for free in ("correction.compare=[0.1, 0.05]", "rollout.tasks=7", "training.checkpoint_seconds=5.0"):
        assert campaign.is_trained(changed(free), ())
    for learned in ("training.epochs=4", "correction.augment=false", "seed=3", "dataset.baseline=st2_exact"):
        assert not campaign.is_trained(changed(learned), ())
    known = campaign.identity_of_run(changed())
    assert set(known) == {"code", "settings", "rollouts"}
    assert campaign.identity_of_run(changed("cluster.workers=7")) == known
    assert campaign.identity_of_run(changed("correction.compare=[0.1, 0.05]")) != known


@pytest.mark.parametrize("damage", [flip_inside, truncate])
def test_a_damaged_correction_is_found_marked_and_made_anew(corrected, tmp_path, damage):
    folder = Path(shutil.copytree(corrected[0], tmp_path / "copy"))
    assert run(folder, "verify").stdout.splitlines() == [
        "generate: 4 of 4 items finished, all as they were written",
        "train: 1 of 1 corrections finished, all as they were written",
        "rollout: 4 of 4 items finished, all as they were written",
    ]
    weights, whole = folder / "run/model/weights.npz", tree(folder / "run/model")
    damage(weights)
    refused = run(folder, "verify", code=1)
    assert refused.stderr.splitlines()[-1].startswith("mlmd: run: items 0 do not hold what was written; `mlmd verify")
    assert (folder / "run/model/model.json").exists()
    assert "train: corrections 0 were damaged" in run(folder, "verify", "--repair").stdout
    run(folder, "train")
    assert weights.read_bytes() == whole["weights.npz"]
    run(folder, "verify")


def test_a_damaged_rollout_of_spins_is_found_marked_and_made_anew(corrected, tmp_path):
    folder = Path(shutil.copytree(corrected[0], tmp_path / "copy"))
    item = folder / "run/rollout/items/T1.44-0-2.npz"
    flip(item)
    assert "run/rollout: items 2 do not hold what was written" in run(folder, "verify", code=1).stderr
    assert "rollout: items 2 were damaged" in run(folder, "verify", "--repair").stdout
    assert not item.exists()
    assert stages(folder)["rollout"] == "4 items: 3 completed, 1 eligible"
    run(folder, "rollout")
    run(folder, "verify")


def test_a_damaged_operator_is_found_marked_and_made_anew(generated):
    (generated / "run.yaml").write_text(RUN_FILE.replace("[1000]}", "[1000], epochs: 2, batch: 16}"))
    run(generated, "train")
    weights = generated / "run/models/harmonic-1000/weights.npz"
    whole = weights.read_bytes()
    assert "train: 1 of 1 operators finished, all as they were written" in run(generated, "verify").stdout
    truncate(weights)
    refused = run(generated, "verify", code=1)
    assert refused.stderr.splitlines()[-1].startswith("mlmd: run/models: items 0 do not hold what was written")
    assert "train: operators 0 were damaged and are marked as not done" in run(generated, "verify", "--repair").stdout
    assert stages(generated)["train"] == "1 operators: 0 completed, 1 eligible"
    run(generated, "train")
    assert weights.read_bytes() == whole
