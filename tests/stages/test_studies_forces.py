"""Studies of effective forces, on steps that are known: Verlet in disguise, ones that lose energy, or are lost."""

import dataclasses
import json
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from mlmd import config
from mlmd.analysis.dynamics import kinetic_energy
from mlmd.physics.box import nearest_image
from mlmd.rollout import force_steps
from mlmd.stages import generate, layout
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import STUDIES, base, rivals, thermodynamics, transfer
from mlmd.stages.studies_forces.base import Learned
from mlmd.stages.studies_forces.transfer import System
from tests.tolerances import MANY_STEPS, STANDARD_ERRORS

PLACE = (0.2, 0.47)
TRANSFER = MappingProxyType({16: System(4, 5.0, 300), 24: System(3, 5.0, 300, pairs_only=True)})
RIVALS = rivals.Size(8, 10.0, 300)


@dataclasses.dataclass
class Steps:
    """Large steps of 0.1 that are Verlet's of `inner`, all of it done `times` times over.

    Velocities are a factor of `damped` smaller at the end of a run, and systems from `lost` on are lost.
    """

    inner: float
    times: int = 1
    damped: float = 1.0
    lost: int | None = None
    timestep: float = 0.1

    def run(self, position, velocity, box, steps):
        return tuple(part[:, -1] for part in self.trajectory(position, velocity, box, steps, max(steps, 1)))

    def trajectory(self, position, velocity, box, steps, stride):
        return tuple(self.watched(position, velocity, box, steps, stride))[:2]

    def watched(self, position, velocity, box, steps, stride):
        many = round(self.timestep / self.inner)
        for _ in range(self.times):
            verlet = force_steps.verlet(self.inner)
            found = verlet.watched(position, velocity, box, many * steps, many * stride)
        found.velocities[:, -1] *= self.damped
        if self.lost is not None:
            found.positions[self.lost :, 1:] = np.nan
        return found


def learned(steps, name="it", kind="pw"):
    return Learned(name, kind, steps, 16, None, 1000.0)


@pytest.fixture
def hasty(monkeypatch):
    """A step of any kind takes a second of the clock, and none of ours."""
    monkeypatch.setattr(base, "seconds_per_step", lambda _advance: 1.0)


def test_states_are_of_their_temperature_in_their_box_without_drift_and_the_same_again():
    state = base.states(16, 0.1, 0.47, 200, 20)
    assert (state.position >= 0).all()
    assert (state.position < state.box).all()
    assert 16 / np.prod(state.box) == pytest.approx(0.1)
    assert np.abs(state.velocity.sum(axis=1)).max() < MANY_STEPS
    # Of 30 degrees of freedom each energy has a relative deviation of √(2/30).
    scaled = kinetic_energy(state.velocity) / (15 * 0.47)
    assert abs(scaled.mean() - 1) < STANDARD_ERRORS * np.sqrt(2 / 30 / 200)
    assert not state.position.flags.writeable
    base.states.cache_clear()
    again, other = base.states(16, 0.1, 0.47, 200, 20), base.states(16, 0.1, 0.48, 4, 20)
    assert np.array_equal(again.position, state.position)
    assert np.array_equal(again.velocity, state.velocity)
    assert not np.isclose(other.velocity / state.velocity[:4], np.sqrt(0.48 / 0.47)).any()


def exact_heat_capacity(density, temperature):
    """Of two atoms: an integral over their distance vector."""
    edge = (2 / density) ** 0.5
    axis = (np.arange(1500) + 0.5) * edge / 1500
    vector = nearest_image(np.stack(np.meshgrid(axis, axis), axis=-1), np.full(2, edge))
    sixth = np.maximum((vector**2).sum(axis=-1), 0.25) ** -3.0
    energy = 4 * (sixth**2 - sixth)
    weight = np.exp(-(energy - energy.min()) / temperature)
    mean = (weight * energy).sum() / weight.sum()
    return 1 + (weight * (energy - mean) ** 2).sum() / weight.sum() / (2 * temperature**2)


@pytest.mark.parametrize("temperature", [0.27, 0.71])
def test_the_heat_capacity_of_two_atoms_is_the_exact_one(temperature):
    size = thermodynamics.Size((), 8, 1000, 500, 20)
    value, error = thermodynamics.heat_capacity(size, 0.3, temperature, atoms=2)
    exact = exact_heat_capacity(0.3, temperature)
    assert error < 0.05 * exact
    assert abs(value - exact) < STANDARD_ERRORS * error


def test_heat_capacities_stand_by_density_and_a_peak_at_the_end_is_none():
    size = thermodynamics.Size((0.27, 0.71), 2, 50, 40, 2, 2)
    found = thermodynamics.heat_capacities(size, (0.1, 0.4))
    names = {f"{d}/{what}" for d in (0.1, 0.4) for what in (0.27, 0.71, "0.27_error", "0.71_error", "peak")}
    assert set(found.metrics) == {f"thermodynamics/heat_capacity/{name}" for name in names}
    assert found.metrics["thermodynamics/heat_capacity/0.1/peak"] is None
    assert "at the end of the range" in found.reasons["thermodynamics/heat_capacity/0.1/peak"]
    assert set(found.figures) == {"heat_capacity"}
    assert thermodynamics._peak((1.0, 2.0, 3.0), (4.0, 6.0, 5.0))[0] == 2.0


RUN_FILE = """
name: samples
out: {out}
dataset: {{family: lj2d, densities: [0.1, 0.38], temperatures: [0.31, 0.59, 0.71], samples: 60, block: 60,
  equilibration_sweeps: 100, sweeps_between_samples: 5, timestep: 0.01, chain: 1, test_temperatures: [0.47],
  test_samples: 2, test_time: 0.1}}
model: {{name: pw, prior: lennard_jones}}
effective_force: {{reference_timestep: 0.01, reference_time: 0.1, statistics_timestep: 0.01}}
rollout: {{systems: 2, time: 0.1, block: 2}}
"""


@pytest.fixture(scope="module")
def sampled_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    (folder / "run.yaml").write_text(RUN_FILE.format(out=folder / "out"))
    run = config.load(folder / "run.yaml")
    for task in range(2):
        generate.generate(run, "mlmd generate", task, 2)
    return run


def test_stored_samples_have_the_energy_of_their_temperature(sampled_run):
    found = Study()
    thermodynamics.add_samples(found, sampled_run)
    assert set(found.figures) == {"samples"}
    lines = {line["density"]: line for line in found.tables["samples"]}
    assert set(lines) == {0.1, 0.38}
    for density, line in lines.items():
        # 60 samples at each of 0.59 and 0.71, of 30 degrees of freedom.
        assert line["samples"] == 120
        prefix = f"thermodynamics/equipartition/{density}"
        assert found.metrics[f"{prefix}_error"] == pytest.approx(np.sqrt(2 / 30 / 120), rel=0.3)
        assert abs(found.metrics[prefix] - 1) < STANDARD_ERRORS * found.metrics[f"{prefix}_error"]
        assert line["mean energy"] == pytest.approx(line["mean kinetic"] + line["mean potential"])
        assert line["deviation of momentum"] ** 2 == pytest.approx(2 * line["mean kinetic"] / 2, rel=0.02)
    assert lines[0.38]["mean potential"] < lines[0.1]["mean potential"] < 0


def test_without_a_store_or_hot_samples_there_are_no_histograms(sampled_run, tmp_path):
    found = Study()
    thermodynamics.add_samples(found, None)
    assert "no run has a finished store" in found.reasons["thermodynamics/samples"]
    cold = sampled_run.dataset.model_copy(update={"temperatures": (0.31,)})
    thermodynamics.add_samples(found, sampled_run.model_copy(update={"dataset": cold}))
    assert "no samples are at temperatures from 0.59" in found.reasons["thermodynamics/samples"]
    assert found.figures == {}


def test_a_step_that_is_verlet_at_a_hundredth_is_as_far_from_the_reference_on_any_atoms():
    found = transfer.steps(TRANSFER, [learned(Steps(0.01))], [PLACE]).metrics
    for atoms in (16, 24):
        place = f"transfer/it/{atoms}/0.2/0.47"
        # The same but for rounding, and what chaos makes of it.
        assert found[f"{place}/distance_ratio"] == pytest.approx(1.0, rel=1e-6)
        assert found[f"{place}/unstable"] == 0
        assert found[f"{place}/energy_shift"] < 1e-3


def test_a_fine_step_has_the_exact_distributions_and_one_that_lost_energy_says_by_how_much():
    # No longer than rounding takes to be seen.
    size = {16: System(4, 2.0, 300)}
    fine, lossy = learned(Steps(0.002), "fine"), learned(Steps(0.002, damped=0.9), "lossy")
    study = transfer.steps(size, [fine, lossy], [PLACE])
    found = study.metrics
    place = "transfer/{}/16/0.2/0.47"
    # Errors of a second order, squared.
    assert found[f"{place.format('fine')}/distance_ratio"] == pytest.approx(0.2**4, rel=0.1)
    for quantity in transfer.QUANTITIES:
        assert found[f"{place.format('fine')}/{quantity}_error"] < 1e-6
        assert found[f"{place.format('fine')}/{quantity}_noise"] > 1e-4
    assert found[f"{place.format('fine')}/energy_shift"] < 1e-4
    # 0.19 of the kinetic energy is gone at the end, which is half of what enters its mean over two frames.
    state = base.states(16, *PLACE, 4, 300)
    end = kinetic_energy(base.verlet(0.002).run(*state.start, 1000)[1]).mean() / 16
    assert found[f"{place.format('lossy')}/energy_shift"] == pytest.approx(0.19 * end, rel=1e-2)
    assert found[f"{place.format('lossy')}/kinetic_error"] == pytest.approx(0.19 / 2, rel=0.3)
    assert len(study.tables["transfer"]) == 2


def test_lost_systems_are_counted_and_have_no_energy():
    found = transfer.steps({16: System(4, 2.0, 300)}, [learned(Steps(0.01, lost=1))], [PLACE])
    place = "transfer/it/16/0.2/0.47"
    assert found.metrics[f"{place}/unstable"] == 3
    assert found.metrics[f"{place}/energy_shift"] is None
    assert found.reasons[f"{place}/energy_shift"] == "3 of 4 systems are lost"
    assert found.metrics[f"{place}/distance_ratio"] is None
    # The one that is left has distributions.
    assert found.metrics[f"{place}/potential_error"] is not None


def test_forces_of_many_bodies_are_followed_less_far_on_more_atoms():
    size = {16: System(2, 5.0, 100), 20: System(2, 5.0, 100), 24: System(2, 5.0, 100, pairs_only=True)}
    found = transfer.steps(size, [learned(Steps(0.01), kind="mb")], [PLACE])
    assert {line["atoms"]: line["time"] for line in found.tables["transfer"]} == {16: 5.0, 20: 1.0}
    assert "no sum over pairs" in found.reasons["transfer/it/24"]


def test_atoms_on_top_of_each_other_have_no_energy_and_hide_no_other_frame():
    state = base.states(16, *PLACE, 4, 300)
    position = np.repeat(state.position[:, None], 2, axis=1)
    position[1, 1, 0] = position[1, 1, 1] + 0.01
    position[2, 0] = np.nan
    velocity = np.broadcast_to(state.velocity[:, None], position.shape)
    energy = base.energy_per_atom(position, velocity, state.box)
    assert np.argwhere(np.isnan(energy)).tolist() == [[1, 1], [2, 0]]
    assert energy[0, 0] == pytest.approx(energy[0, 1])


@pytest.mark.parametrize("inner", [0.02, 0.01])
def test_the_rival_of_verlet_in_disguise_has_its_timestep(hasty, inner):
    found = rivals.steps(RIVALS, [learned(Steps(inner))], [(0.38, 0.71)]).metrics
    # Found to 0.02, and rounded down to one that divides the time between frames.
    assert 0.9 * inner < found["rival/it/0.38/0.71/accuracy_timestep"] <= inner * (1 + 1e-9)
    assert found["rival/it/0.38/0.71/timestep"] == pytest.approx(inner, rel=0.25)
    # A step of either takes as long, so what a unit of time takes goes with the timestep.
    ratio = found["rival/it/0.38/0.71/cost_ratio"]
    assert ratio == pytest.approx(found["rival/it/0.38/0.71/timestep"] / 0.1)
    assert found["rival/it/cost_ratio"] == ratio


def test_a_step_done_three_times_over_costs_three_times_as_much():
    once, thrice = learned(Steps(0.01)), learned(Steps(0.01, times=3), "thrice")
    found = rivals.steps(RIVALS, [once, thrice], [(0.38, 0.71)]).metrics
    ratio = found["rival/thrice/accuracy_cost_ratio"] / found["rival/it/accuracy_cost_ratio"]
    assert 2.0 < ratio < 4.5
    assert found["rival/thrice/0.38/0.71/timestep"] == found["rival/it/0.38/0.71/timestep"]


def test_the_worst_place_counts_unless_verlet_is_nowhere_as_accurate(hasty):
    places = [(0.1, 0.71), (0.38, 0.71)]
    found = rivals.steps(RIVALS, [learned(Steps(0.02))], places)
    here = [found.metrics[f"rival/it/{d}/0.71/cost_ratio"] for d in (0.1, 0.38)]
    assert found.metrics["rival/it/cost_ratio"] == max(here)
    finer = rivals.steps(RIVALS, [learned(Steps(0.001))], places[:1])
    assert finer.metrics["rival/it/0.1/0.71/timestep"] is None
    assert "Verlet at 0.002 is less accurate" in finer.reasons["rival/it/0.1/0.71/timestep"]
    assert finer.reasons["rival/it/cost_ratio"] == "Verlet at 0.002 is less accurate everywhere"
    gone = rivals.steps(RIVALS, [learned(Steps(0.02, lost=7))], places[:1])
    assert gone.metrics["rival/it/0.1/0.71/accuracy_cost_ratio"] is None
    assert gone.reasons["rival/it/cost_ratio"] == "systems are lost at 0.1/0.71"
    mixed = Study()
    rivals._put_worst(mixed, "worst", [(2.0, True, "a"), (None, True, "b"), (1.0, True, "c")])
    rivals._put_worst(mixed, "lost", [(2.0, True, "a"), (None, False, "b")])
    assert mixed.metrics == {"worst": 2.0, "lost": None}


def test_trajectories_are_known_for_whole_steps_up_to_three_lyapunov_times():
    assert base.known_until(2.0, 0.1, 10.0) == pytest.approx(1.5)
    assert base.known_until(2.1, 0.1, 10.0) == pytest.approx(1.4)
    assert base.known_until(2.0, 0.1, 1.0) == pytest.approx(1.0)
    assert base.known_until(0.0, 0.1, 1.0) == pytest.approx(1.0)
    assert base.known_until(100.0, 0.1, 1.0) == pytest.approx(0.1)
    assert 0.5 < base.exponent(base.states(16, 0.38, 0.71, 8, 300)) < 4.0


@pytest.fixture
def trained_run(sampled_run, tmp_path):
    """A run whose model is velocity Verlet at 0.01, ten steps in one."""
    run = sampled_run.model_copy(update={"out": tmp_path})
    folder = layout.effective_force(run)
    folder.mkdir(parents=True)
    told = {"schema": 1, "kind": "pw", "atoms": 16, "timestep": 0.1, "chain": 1, "dtype": "float64"}
    told |= {"prior": "lennard_jones", "grid": 0.0, "cutoff": 0.0, "share": 0.5}
    (folder / "model.json").write_text(json.dumps(told))
    kicks = np.full(11, 0.1)
    kicks[[0, -1]] = 0.05
    arrays = {"drifts": np.full(10, 0.1), "kicks": kicks, "terms": np.zeros((11, 3)), "signs": np.ones(11)}
    np.savez(folder / "weights.npz", **arrays)
    return run


def test_runs_with_trained_forces_take_part(sampled_run, trained_run, monkeypatch, hasty, tmp_path):
    assert base.learned({"without": sampled_run}) == []
    runs = {"without": sampled_run, "it": trained_run}
    (step,) = base.learned(runs)
    assert (step.name, step.kind, step.atoms, step.cutoff, step.time) == ("it", "pw", 16, None, 0.1)
    state = base.states(16, *PLACE, 4, 300)
    beside = base.verlet(0.01).run(*state.start, 10)[0]
    assert step.steps.run(*state.start, 1)[0] == pytest.approx(beside, abs=MANY_STEPS)
    monkeypatch.setattr(transfer, "SMALL", {16: System(4, 2.0, 300)})
    monkeypatch.setattr(rivals, "SMALL", rivals.Size(4, 2.0, 300))
    monkeypatch.setattr(thermodynamics, "SMALL", thermodynamics.Size((0.3, 0.7), 2, 20, 8, 1))
    found = {name: study(tmp_path, runs) for name, study in STUDIES.items()}
    assert set(found["thermodynamics"].figures) == {"heat_capacity", "samples"}
    assert len(found["transfer"].tables["transfer"]) == len(transfer.PLACES)
    assert len(found["rivals"].tables["rivals"]) == len(rivals.PLACES)
    assert {name.split("/")[1] for name in found["transfer"].metrics | found["rivals"].metrics} == {"it"}


def test_sizes_grow_with_the_rollouts_and_without_trained_forces_studies_say_so(sampled_run):
    assert not base.is_published({"it": sampled_run})
    many = SimpleNamespace(rollout=SimpleNamespace(systems=None), dataset=SimpleNamespace(test_systems=1000))
    assert base.is_published({"it": sampled_run, "many": many})
    for found, name in ((transfer.steps(TRANSFER, []), "transfer"), (rivals.steps(RIVALS, []), "rival")):
        assert found.reasons == {name: "no effective force is trained"}
