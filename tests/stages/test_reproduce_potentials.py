"""The campaign of potentials: whose numbers stand where, what is missing says why, stopped campaigns go on."""

import functools
import json
import shutil
import signal
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from hpc.errors import EXIT_STOPPED
from mlmd import config
from mlmd.config import ConfigError, potential_campaign
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.stages import campaign as campaign_work
from mlmd.stages import generate, layout, reproduce, reproduce_potentials
from mlmd.stages.studies_potentials import STUDIES, conservation, ice, material, speed, structure
from mlmd.stages.studies_potentials.material import System
from mlmd.state import RunawayAtom
from tests.pages import Page
from tests.programs import CHECKOUT, kill_group, run, start_program, wait_until
from tests.stages.tiny_potential import DATASET, FILES, write_run

WATER = {
    **DATASET,
    "material": "mw_water",
    "melt_time": 1.0,
    "equilibration_time": 1.0,
    "states": [{"phase": "liquid", "temperature": 298.0, "density": 0.997}],
}
ICE = [str(CHECKOUT / "tests/data/lammps/mw64_ice_ic.npz")]
SIZES = {
    "structure": structure.Size(1, 100, 20, 200, 20, cells=2),
    "conservation": conservation.Size(MappingProxyType({"silicon": 1, "mw_water": 1}), 100, time=0.2, frames=10),
    "ice": ice.Size(2, 1.0, 10),
    "speed": speed.Size((1, 2), 100, 1),
}
MODULES = {"structure": structure, "conservation": conservation, "ice": ice, "speed": speed}
# The campaign as `mlmd reproduce` makes it, with studies as small as these.
PROGRAM = """
from pathlib import Path
from mlmd.stages import reproduce_potentials
from tests.stages import test_reproduce_potentials as tests
reproduce_potentials._studies = tests.studies
if __name__ == "__main__":
    from hpc.errors import UserError
    import sys
    try:
        print(reproduce_potentials.reproduce(Path("configs"), "the command"))
    except UserError as error:
        sys.exit(error.exit_code)
"""


def studies():
    """All but the thesis' own steps, in seconds."""

    def brief(name, _folder, runs):
        return MODULES[name].steps(SIZES[name], material.systems(runs))

    return {name: functools.partial(brief, name) for name in SIZES}


def write_campaign(folder, out="tiny"):
    write_run(folder / "silicon.yaml", "tiny-silicon", f"{out}/silicon")
    wet = {"dataset": WATER, "model": {"name": "fingerprints", "two_body": 2, "three_body": 2, "hidden": [4]}}
    write_run(folder / "mw_water.yaml", "tiny-water", f"{out}/mw_water", fit={"test_files": ICE}, **wet)
    (folder / "campaign.yaml").write_text(json.dumps({"name": "tiny", "out": out, "runs": ["silicon", "mw_water"]}))
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Run files and their datasets."""
    folder = tmp_path_factory.mktemp("it's <a> campaign")
    write_campaign(folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("silicon", "mw_water"):
            for task in range(2):
                generate.generate(config.load(Path(f"configs/{name}.yaml")), "mlmd generate", task, 2)
    return folder


WORDS = (sys.executable, "-c", PROGRAM)


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """Stopped by a signal when it had one potential, and then to its end."""
    folder = tmp_path_factory.mktemp("whole") / "work"
    shutil.copytree(given, folder)
    process, first = start_program(WORDS, folder), folder / "tiny/silicon/model/model.json"
    wait_until(lambda: first.exists() or process.poll() is not None, first.name)
    assert kill_group(process, signal.SIGUSR1) == EXIT_STOPPED, (folder / "log").read_text()
    assert not (folder / "tiny/metrics.json").exists()
    assert not (folder / "tiny/mw_water/model/model.json").exists()
    kept = (folder / "tiny/silicon/model/model.json").stat().st_mtime_ns
    done = run(WORDS, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tiny: 2 runs, 4 studies: tiny/report.html"
    assert (folder / "tiny/silicon/model/model.json").stat().st_mtime_ns == kept
    return folder


def read(folder, name):
    return json.loads((folder / "tiny" / name).read_text())


def test_a_systems_numbers_are_those_of_its_test_files_and_ice_stands_apart(whole):
    metrics = read(whole, "metrics.json")
    for key in ("energy_mev_per_atom", "force_mev_per_angstrom"):
        silicon, water = (read(whole, f"{name}/metrics.json") for name in ("silicon", "mw_water"))
        assert metrics[f"silicon/{key}"] == silicon[f"held_out/{key}"] > 0
        assert metrics[f"mw_ice/{key}"] == water[f"ice/{key}"] > 0
        # Nothing of its liquid is in a file.
        assert metrics[f"mw_water/{key}"] == water[f"validation/{key}"] > 0
        for part in ("validation", *(Path(name).stem for name in FILES)):
            assert metrics[f"silicon/{part}/{key}"] == silicon[f"{part}/{key}"]
    assert metrics["silicon/training/seconds"] > 0


def test_every_study_has_its_numbers_or_says_why(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")
    for system in ("silicon", "mw_water"):
        for name in ("rdf_percent", "rdf_noise_percent", "nve_drift_ev_per_atom_100ps", "us_per_atom"):
            value = metrics[f"{system}/{name}"]
            assert value > 0 if value is not None else told["not_finite"][f"{system}/{name}"]
    assert metrics["speed/standard/us_per_atom"] > 0
    assert metrics["ice_200K/reference/tetrahedral_order"] > 0.9
    missing = [name for name, value in metrics.items() if value is None]
    assert "silica/energy_mev_per_atom" in missing
    for name in missing:
        assert told["not_finite"][name]
    for part in ("numbers", "goals"):
        assert {record["metric"] for record in told[part]} <= set(metrics)
        assert {record["verdict"] for record in told[part]} <= {"reached", "not reached"}
    silica = next(record for record in told["goals"] if record["metric"] == "silica/rdf_percent")
    assert silica["why"] == "not part of this campaign"


def test_the_page_is_whole_loads_nothing_and_its_links_lead_somewhere(whole):
    path = whole / "tiny" / "report.html"
    page = Page.of(path)
    assert page.open == []
    # Of each run parity and learning curves, and those of the studies.
    assert len(page.sources) == 2 * 2 + len(list((whole / "tiny/figures").glob("*.png")))
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.links
    assert [link for link in page.links if not (path.parent / link).exists()] == []


def test_a_failure_hides_nothing_and_the_rest_is_not_made_again(whole, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)

    def broken(_folder, _runs):
        raise ZeroDivisionError

    known = dict.fromkeys(SIZES, broken)
    monkeypatch.setattr(reproduce_potentials, "_studies", lambda: {**known, "broken": broken})
    with pytest.raises(reproduce.CampaignIncomplete, match=r"^1 of the campaign failed \(study broken: ZeroDiv"):
        reproduce_potentials.reproduce(Path("configs"), "the command")
    assert read(folder, "metrics.json") == read(whole, "metrics.json")
    assert "study broken" in (folder / "tiny/report.html").read_text()
    # What is not there for a failed study has that as its reason.
    shutil.rmtree(folder / "tiny/studies")
    with pytest.raises(reproduce.CampaignIncomplete):
        reproduce_potentials.reproduce(Path("configs"), "the command")
    told = read(folder, "published.json")["not_finite"]
    assert told["silicon/rdf_percent"] == "ZeroDivisionError: "
    assert told["ice_200K/lindemann"] == "ZeroDivisionError: "


def test_a_potential_of_another_training_is_not_taken(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    run_ = config.load(Path("configs/silicon.yaml"))
    assert campaign_work.is_trained(run_, ())
    other = config.load(Path("configs/silicon.yaml"), ["training.epochs=9"])
    assert not campaign_work.is_trained(other, ())
    assert campaign_work.is_trained(other, ("training.epochs",))
    described = layout.potential(run_) / "model.json"
    values = json.loads(described.read_text())
    values["conditions"]["ranks"] = 4
    described.write_text(json.dumps(values))
    assert campaign_work.is_trained(run_, ())
    values["conditions"]["seed"] = 1
    described.write_text(json.dumps(values))
    monkeypatch.setattr(reproduce_potentials, "_studies", dict)
    with pytest.raises(reproduce.CampaignIncomplete, match="seed"):
        reproduce_potentials.reproduce(Path("configs"), "the command")


# Studies of potentials that are their own reference


def itself(name):
    substance = SUBSTANCES[name]
    timestep = 0.005 if name == "mw_water" else 0.001
    return System(name, name, substance.potential(), substance.potential(), timestep)


def test_the_reference_has_its_own_structure_and_seeds_differ():
    found = structure.steps(SIZES["structure"], [itself("silicon")])
    assert found.metrics["silicon/rdf_percent"] == 0.0
    assert found.metrics["silicon/rdf_noise_percent"] > 1.0
    assert found.tables["structure"][0]["atoms"] == 64


def test_pairs_of_species_add_up_to_all():
    start = material.prepared("silica", material.LIQUIDS["silica"], 0, 2, 20)
    g = structure.distributions([start.position], start, ("Si", "O"))
    assert set(g) == {"", "Si-Si", "O-O", "Si-O"}
    pairs = {"Si-Si": 64 * 63 / 2, "O-O": 128 * 127 / 2, "Si-O": 64 * 128}
    whole = sum(count * g[pair] for pair, count in pairs.items()) / (192 * 191 / 2)
    assert whole == pytest.approx(g[""])


def test_the_drift_of_the_reference_is_its_own():
    found = conservation.steps(SIZES["conservation"], [itself("mw_water")])
    own, reference = (found.metrics[f"mw_water/{p}nve_rms_ev_per_atom"] for p in ("", "reference/"))
    assert own == reference < 1e-3
    assert found.metrics["mw_water/nve_drift_ev_per_atom_100ps"] >= 0


def test_ice_stays_ice_by_the_reference_and_what_melts_does_not():
    found = ice.steps(ice.Size(2, 5.0, 20), [itself("mw_water")])
    assert found.metrics["ice_200K/lindemann"] < 0.15
    assert found.metrics["ice_200K/tetrahedral_order"] > 0.9
    assert found.metrics["ice_200K/rdf_percent"] == 0.0
    liquid = material.prepared("mw_water", material.LIQUIDS["mw_water"], 0, 2, 2000)
    told = ice.told(liquid.position[None], liquid)
    assert told["tetrahedral_order"] < 0.85
    away = ice.crystal(2)
    assert ice.told((away.position + 0.7)[None], away)["rms_displacement"] < 1e-12


def test_a_run_that_blows_up_is_a_result_with_a_reason(monkeypatch):
    class Wild:
        extrapolations = 0

        def engine(self, *_given):
            raise RunawayAtom(None, 3, 17, 5.0)

    system = System("silicon", "silicon", Wild(), SUBSTANCES["silicon"].potential(), 0.001)
    water = System("mw_water", "mw_water", Wild(), SUBSTANCES["mw_water"].potential(), 0.005)
    for found, name in (
        (structure.steps(SIZES["structure"], [system]), "silicon/rdf_percent"),
        (conservation.steps(SIZES["conservation"], [system]), "silicon/nve_drift_ev_per_atom_100ps"),
        (ice.steps(SIZES["ice"], [water]), "ice_200K/lindemann"),
    ):
        assert found.metrics[name] is None
        assert "atom 3 moved by 5 at step 17" in found.reasons[name]


def test_the_standard_potential_has_24_functions_and_rests():
    start = speed.crystal(2)
    for closed in (False, True):
        potential = speed.standard(closed=closed)
        assert potential.descriptors.features == 24
        result = potential.compute(start.position, start.box)
        assert abs(result.forces).max() > 0
    assert potential.extrapolations == 0


# Run files


@pytest.mark.parametrize("size", reproduce.SIZES)
def test_the_campaign_has_a_potential_of_every_material(size):
    campaign = potential_campaign.load(reproduce.folder_of("potentials", size))
    assert list(campaign.runs) == ["lennard_jones", "silicon", "mw_water", "mw_water_hdnnp", "silica"]
    assert {run_.dataset.material for run_ in campaign.runs.values()} == set(SUBSTANCES)
    assert campaign.runs["mw_water"].model.name == "fingerprints"
    water = campaign.runs["mw_water"]
    # Ice is measured, and nothing of it trained on.
    assert {state.phase for state in water.dataset.states} == {"liquid"}
    assert any("ice" in name for name in water.fit.test_files)
    for run_ in campaign.runs.values():
        assert run_.fit.test_files
    assert set(STUDIES) == {*SIZES, "one_pair", "many_pairs", "five_neighbours"}


def test_a_campaign_is_of_potentials_by_names_that_are_free(tmp_path):
    folder = write_campaign(tmp_path)
    values = json.loads((folder / "silicon.yaml").read_text())
    for name in ("fit", "model", "training"):
        del values[name]
    (folder / "silicon.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="fit: is missing"):
        potential_campaign.load(folder)
    (folder / "silicon.yaml").rename(folder / "speed.yaml")
    (folder / "campaign.yaml").write_text(json.dumps({"name": "t", "out": "tiny", "runs": ["speed", "mw_water"]}))
    with pytest.raises(ConfigError, match="speed is no name for a run"):
        potential_campaign.load(folder)
    assert [potential_campaign.ice_of(name) for name in ("mw_water", "mw_water_hdnnp", "wet")] == [
        *("mw_ice", "mw_ice_hdnnp", "wet_ice")
    ]
