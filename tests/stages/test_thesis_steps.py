"""The thesis' steps on networks too small to be good: what is learned and told is what it is said to be."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlmd.analysis import plots, potential_plots
from mlmd.physics.potentials import LennardJones
from mlmd.stages.studies_potentials import STEPS, base, five_neighbours, many_pairs, one_pair, training
from mlmd.stages.studies_potentials.plan import Plan

EXACT = LennardJones(cutoff=base.CUTOFF, shift="exact")
RANDOM = np.random.default_rng(2)
SIZES = {
    "one_pair": one_pair.Size((6,), 200, 1000),
    "many_pairs": many_pairs.Size(2000, 400, 20, Plan(10, 40, 50, 0.01)),
    "five_neighbours": five_neighbours.Size(2000, 300, Plan(4, 30, 50, 0.01)),
}
MODULES = {"one_pair": one_pair, "many_pairs": many_pairs, "five_neighbours": five_neighbours}


@pytest.fixture(scope="module")
def studies():
    return {name: MODULES[name].steps(size) for name, size in SIZES.items()}


def test_the_pair_is_the_shifted_potential_of_the_reference_dynamics():
    for r in (0.8, 1.0, 1.3, 2.4999):
        energy, slope = base.pair(np.array(r))
        result = EXACT.compute(np.array([[0.0, 0, 0], [r, 0, 0]]))
        assert energy == pytest.approx(result.energy, rel=1e-12, abs=1e-14)
        assert slope == pytest.approx(-result.forces[1, 0], rel=1e-12)
    assert base.pair(np.array(base.CUTOFF))[0] == 0.0


@pytest.mark.parametrize("name", STEPS)
def test_every_number_is_finite_and_stands_in_a_table_and_a_figure(studies, name):
    study = studies[name]
    assert study.metrics
    assert study.reasons == {}
    assert all(type(value) is float and np.isfinite(value) for value in study.metrics.values())
    assert all(metric.startswith(f"{name}/") for metric in study.metrics)
    assert list(study.tables) == [name]
    json.dumps(study.tables, allow_nan=False)
    assert study.figures
    for figure in study.figures.values():
        assert plots.png(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["one_pair", "many_pairs"])
def test_the_same_seed_gives_the_same_numbers(studies, name):
    assert MODULES[name].steps(SIZES[name]).metrics == studies[name].metrics


def test_one_pair_is_learned_and_the_exported_network_says_the_same(studies):
    metrics = studies["one_pair"].metrics
    # Of energies up to 43 and derivatives up to 760.
    assert metrics["one_pair/energy_rms"] < 0.1
    assert metrics["one_pair/derivative_rms"] < 5.0
    assert metrics["one_pair/energy_max"] >= metrics["one_pair/energy_rms"]
    assert metrics["one_pair/as_exported"] < 1e-11


def test_the_derivative_is_worst_at_the_near_end_unless_more_was_learned(studies):
    metrics, (first, _) = studies["one_pair"].metrics, studies["one_pair"].tables["one_pair"]
    assert first["largest derivative error at"] == base.LOW
    assert metrics["one_pair/wider/derivative_max"] < metrics["one_pair/derivative_max"]


def test_figures_of_one_pair_show_the_errors_that_are_told(studies):
    study = studies["one_pair"]
    for what in ("energy", "derivative"):
        panel = study.figures[f"one_pair-{what}"].axes[0]
        own, wider = (np.abs(line.get_ydata()).max() for line in panel.get_lines())
        assert own == pytest.approx(study.metrics[f"one_pair/{what}_max"])
        assert wider == pytest.approx(study.metrics[f"one_pair/wider/{what}_max"])


def test_the_cost_falls_and_is_half_of_the_mean_square(studies):
    study = studies["many_pairs"]
    metrics = study.metrics
    assert metrics["many_pairs/test_cost"] < 0.95 * metrics["many_pairs/untrained_cost"]
    assert metrics["many_pairs/energy_rms"] == pytest.approx(np.sqrt(2.0 * metrics["many_pairs/test_cost"]))
    train, test, _ = study.figures["many_pairs-cost"].axes[0].get_lines()
    assert len(train.get_ydata()) == 10
    assert test.get_ydata()[-1] == pytest.approx(metrics["many_pairs/test_cost"])


def test_what_a_fit_tells_is_the_mean_square_over_the_whole_test_set():
    x = RANDOM.normal(size=(500, 3)).astype(np.float32)
    y = np.sin(x.sum(axis=1, keepdims=True))
    model = training.network(3, (8,), 1, "tanh", "float32", seed=1)
    before = np.mean((model.predict(x[400:], verbose=0) - y[400:]) ** 2)
    loss, test = training.fit(model, (x[:400], y[:400]), (x[400:], y[400:]), Plan(30, 10, 40, 0.01))
    assert loss.shape == test.shape == (30,)
    after = np.mean((model.predict(x[400:], verbose=0) - y[400:]) ** 2)
    assert test[-1] == pytest.approx(after, rel=1e-4)
    assert after < 0.2 * before
    with pytest.raises(ValueError, match="a batch of 700 is more than all 500 samples"):
        training.fit(model, (x, y), (x, y), Plan(1, 1, 700, 0.01))


def test_labels_of_five_neighbours_are_energy_and_force_of_the_atom_in_the_middle():
    position = five_neighbours._placed(RANDOM, RANDOM.uniform(0.9, 2.4, (3, 5)))
    given = five_neighbours.labelled(position)
    for sample, around in enumerate(position):
        results = [EXACT.compute(np.stack([np.zeros(3), one])) for one in around]
        assert given.energy[sample] == pytest.approx(sum(result.energy for result in results))
        np.testing.assert_allclose(given.force[sample], sum(result.forces[0] for result in results), rtol=1e-10)


def test_on_a_way_one_neighbour_moves_straight_out_to_the_cutoff():
    ways = five_neighbours._ways(np.random.default_rng(0)).reshape(five_neighbours.WAYS, -1, 5, 3)
    distance = np.linalg.norm(ways, axis=-1)
    np.testing.assert_allclose(distance[:, [0, -1], 0], [[base.LOW, base.CUTOFF]] * five_neighbours.WAYS)
    assert np.ptp(distance[:, :, 1:], axis=1).max() == 0.0
    direction = ways[:, :, 0] / distance[:, :, :1]
    np.testing.assert_allclose(direction, np.broadcast_to(direction[:, :1], direction.shape), atol=1e-12)


@pytest.mark.parametrize("kind", ["separate", "differentiated", "energy"])
def test_the_force_that_follows_from_the_energy_is_its_derivative(kind):
    ratio, step = 0.3, 1e-5
    core = training.network(20, (7,), 4 if kind == "separate" else 1, "tanh", "float64", seed=3)
    model = training.Neighbours(core, kind, base.CUTOFF, ratio)
    position = five_neighbours._placed(RANDOM, RANDOM.uniform(0.9, 2.4, (4, 5)))
    energy, force, follows = model.predicted(position)
    assert (energy.shape, force.shape, follows.shape) == ((4,), (4, 3), (4, 3))
    for axis, unit in enumerate(np.eye(3)):
        # The atom in the middle moves to one side: all others to the other.
        ahead, behind = (model.predicted(position - sign * step * unit)[0] for sign in (1, -1))
        np.testing.assert_allclose(follows[:, axis], -ratio * (ahead - behind) / (2 * step), atol=1e-8)
    apart = np.abs(force - follows).max()
    assert apart > 1e-2 if kind == "separate" else apart == 0.0
    outputs = model(position).numpy()
    if kind != "energy":
        np.testing.assert_allclose(outputs, np.column_stack([energy, force]), atol=1e-12)
    else:
        np.testing.assert_allclose(outputs[:, 0], energy, atol=1e-12)


def test_only_the_network_of_four_outputs_contradicts_itself(studies):
    metrics = studies["five_neighbours"].metrics
    assert metrics["five_neighbours/separate/inconsistency"] > 1.0
    assert metrics["five_neighbours/differentiated/inconsistency"] == 0.0
    assert metrics["five_neighbours/energy_only/inconsistency"] == 0.0
    *ours, thesis = studies["five_neighbours"].tables["five_neighbours"]
    assert [line["network"] for line in ours] == list(five_neighbours.KINDS)
    assert thesis["cost"] == pytest.approx(0.1326, abs=1e-4)
    assert thesis["energy_at_cutoff"] == 0.125104


def test_runs_of_the_published_size_are_told_by_their_configurations():
    def run(family, systems):
        return SimpleNamespace(dataset=SimpleNamespace(family=family, states=[1, 2], systems=systems, frames=50))

    assert not base.is_published({})
    assert not base.is_published({"a": run("configurations", 5), "b": run("spins", 400)})
    assert base.is_published({"a": run("configurations", 5), "b": run("configurations", 40)})
    for module in (one_pair, many_pairs, five_neighbours):
        assert module.SMALL != module.PUBLISHED


def test_a_curve_that_is_zero_somewhere_is_left_out_there_on_the_logarithmic_axis():
    figure = potential_plots.over_distance(np.arange(3.0), {"a": np.array([0.0, -1.0, 2.0])}, "error")
    assert np.isnan(figure.axes[1].get_lines()[0].get_ydata()).tolist() == [True, False, False]
    assert figure.axes[1].get_yscale() == "log"
