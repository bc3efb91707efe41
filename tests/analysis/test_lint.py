"""Before training: what no training can repair is refused, what it may cost is told, and nothing else is."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mlmd.analysis import lint as linting
from mlmd.analysis.lint import CHECKS, DataFacts, Finding, ModelFacts, lint, rank_residual, refusals, render
from tests.tolerances import ROUNDING

RANDOM = np.random.default_rng(11)
# Of the published test system: 16 atoms in a box of 6, Lyapunov exponent 2.85, timestep Δ = 0.001.
ATOMS, BOX, LYAPUNOV, TIMESTEP = 16, 6.0, 2.85, 0.001
ALL_SYMMETRIES = frozenset({"translation", "permutation", "reflection", "time reversal", "momentum"})
# A sum of thousands of squares, each rounded, against the same in another order.
SUM_OF_SQUARES = 100 * ROUNDING


def published_states(samples=4000, atoms=ATOMS):
    """Atoms anywhere in the box, velocities of temperature 1: (samples, 96)."""
    positions = RANDOM.uniform(-BOX / 2, BOX / 2, (samples, 3 * atoms))
    return np.concatenate([positions, RANDOM.normal(size=(samples, 3 * atoms))], axis=1)


STATES = published_states()
PUBLISHED_MODEL = ModelFacts(
    name="lstm_operator", features=6 * ATOMS, last_width=32, residual=False, dtype="float32", window=5
)
GOOD_MODEL = replace(
    PUBLISHED_MODEL,
    last_width=None,
    residual=True,
    symmetries=ALL_SYMMETRIES,
    conditioned_on=frozenset({"epsilon"}),
)
# A stride of 100 Δ; with the good model nothing is to be found here.
DATA = DataFacts(
    system="16",
    targets=STATES,
    varying={"epsilon": np.array([1.0, 2.0, 1.0])},
    labels=frozenset({"position", "velocity", "epsilon", "split"}),
    used=frozenset({"position", "velocity", "split"}),
    train_systems=np.arange(8),
    validation_systems=np.arange(8, 10),
    units="reduced",
    time_step=100 * TIMESTEP,
    lyapunov=LYAPUNOV,
    input_error=None,
    dim=3,
)
LONG_STEP = replace(DATA, time_step=4000 * TIMESTEP)


def with_feature(column, value):
    targets = STATES.copy()
    targets[:, column] = value
    return replace(DATA, targets=targets)


def one_not_finite():
    targets = STATES.copy()
    targets[7, 5] = np.nan
    return replace(DATA, targets=targets)


ONE_DIMENSIONAL = replace(DATA, system="rugged", targets=STATES[:, [0, 48]], dim=1)
ONE_DIMENSIONAL_MODEL = replace(GOOD_MODEL, features=2, last_width=32, symmetries=frozenset({"time reversal"}))
FROM_RANK_32 = STATES[:, :32] @ RANDOM.normal(size=(32, 96))

# check → [(level, a word of what is told, model, data)]
FIRES = {
    "rank": [
        ("refuse", "span 32 dimensions", PUBLISHED_MODEL, DATA),
        ("warn", "of the changes", replace(PUBLISHED_MODEL, residual=True), DATA),
        ("refuse", "per feature", PUBLISHED_MODEL, replace(DATA, dim=None)),
        ("warn", "ten samples", PUBLISHED_MODEL, replace(DATA, targets=STATES[:100])),
    ],
    "precision": [
        ("warn", "float64", GOOD_MODEL, LONG_STEP),
        ("warn", "the error of the input", replace(GOOD_MODEL, dtype="float64"), replace(LONG_STEP, input_error=1e-6)),
        ("warn", "float16", replace(GOOD_MODEL, dtype="float16"), replace(DATA, lyapunov=0.0)),
        ("note", "not known", GOOD_MODEL, replace(DATA, lyapunov=None)),
        ("warn", "above", replace(GOOD_MODEL, dtype="float64"), replace(DATA, time_step=1e9)),
    ],
    "shared windows": [
        (
            "refuse",
            "(7, 8)",
            GOOD_MODEL,
            replace(DATA, validation_systems=np.array([8, 7, 12]), train_systems=np.arange(9)),
        )
    ],
    "unused labels": [
        ("note", "epsilon differs", replace(GOOD_MODEL, conditioned_on=frozenset()), DATA),
        ("warn", "cannot tell", replace(GOOD_MODEL, conditioned_on=frozenset(), window=1), DATA),
        # Only some systems have the parameter.
        ("note", "(1 to 2)", GOOD_MODEL, replace(DATA, varying={"stiffness": np.array([np.nan, 1.0, 2.0])})),
        ("note", "energy", GOOD_MODEL, replace(DATA, labels=DATA.labels | {"energy"})),
    ],
    "symmetries": [
        (
            "note",
            "momentum, permutation",
            replace(GOOD_MODEL, symmetries=ALL_SYMMETRIES - {"momentum", "permutation"}),
            DATA,
        ),
        ("note", "rugged has time reversal,", replace(ONE_DIMENSIONAL_MODEL, symmetries=frozenset()), ONE_DIMENSIONAL),
    ],
    "units": [
        ("warn", "does not name", GOOD_MODEL, replace(DATA, units=None)),
        ("warn", "'furlongs'", GOOD_MODEL, replace(DATA, units="furlongs")),
    ],
    "scale": [
        ("refuse", "1 of 4000 samples are not finite, in features 5", PUBLISHED_MODEL, one_not_finite()),
        ("refuse", "Features 50 ", GOOD_MODEL, with_feature(50, 0.1)),
        ("refuse", "Features 0, 1", replace(PUBLISHED_MODEL, features=6), replace(DATA, targets=np.ones((40, 6)))),
    ],
}
SILENT = {
    "rank": [
        (replace(PUBLISHED_MODEL, last_width=96), DATA),
        (PUBLISHED_MODEL, replace(DATA, targets=FROM_RANK_32)),
        (PUBLISHED_MODEL, one_not_finite()),
        (ONE_DIMENSIONAL_MODEL, ONE_DIMENSIONAL),
    ],
    "precision": [
        (PUBLISHED_MODEL, replace(DATA, input_error=1e-6)),
        (replace(GOOD_MODEL, dtype="float64"), LONG_STEP),
        (PUBLISHED_MODEL, replace(LONG_STEP, lyapunov=0.0)),
    ],
    "shared windows": [(PUBLISHED_MODEL, DATA)],
    "unused labels": [
        (replace(GOOD_MODEL, conditioned_on=frozenset()), replace(DATA, used=DATA.labels)),
        # A parameter that no system has, and one that all share, tell systems not apart.
        (GOOD_MODEL, replace(DATA, varying={"stiffness": np.full(3, np.nan), "mass": np.full(3, 2.0)})),
    ],
    "symmetries": [(ONE_DIMENSIONAL_MODEL, ONE_DIMENSIONAL)],
    "units": [(GOOD_MODEL, replace(DATA, units="metal"))],
    "scale": [(PUBLISHED_MODEL, DATA), (ONE_DIMENSIONAL_MODEL, ONE_DIMENSIONAL)],
}


def of(cases):
    return [
        pytest.param(name, *case, id=f"{name} {k}") for name, listed in cases.items() for k, case in enumerate(listed)
    ]


@pytest.mark.parametrize(("name", "level", "told", "model", "data"), of(FIRES))
def test_check_tells_what_is_wrong(name, level, told, model, data):
    found = [finding for finding in lint(model, data) if finding.name == name]
    assert [finding.level for finding in found] == [level]
    assert told in found[0].told
    assert found[0].told.endswith(".")


@pytest.mark.parametrize(("name", "model", "data"), of(SILENT))
def test_check_is_silent_where_nothing_is_wrong(name, model, data):
    assert [finding for finding in lint(model, data) if finding.name == name] == []


def test_every_check_has_a_case_of_both_kinds():
    assert CHECKS.keys() == FIRES.keys() == SILENT.keys()


def test_a_sound_model_on_sound_data_is_let_through_without_a_word():
    assert lint(GOOD_MODEL, DATA) == []


def test_published_network_of_16_atoms_is_refused_with_its_smallest_error():
    """32 units for 96 coordinates: 16 of 48 position coordinates stay at their mean, each of variance 6²/12."""
    stopped = refusals(lint(PUBLISHED_MODEL, LONG_STEP))
    assert [finding.name for finding in stopped] == ["rank"]
    told = stopped[0].told
    coordinate = float(told.partition(" per coordinate")[0].rpartition(" ")[2])
    atom = float(told.partition(" per atom")[0].rpartition(" ")[2])
    exact = BOX / math.sqrt(12) * math.sqrt(16 / 48)
    # From 4000 samples the best components seem better than they are by some percent.
    assert coordinate == pytest.approx(exact, rel=0.08)
    # Errors near normal, three coordinates an atom: the mean of their length.
    assert atom == pytest.approx(exact * math.sqrt(8 / math.pi), rel=0.08)
    assert "At least 96 units" in told


def test_rank_check_names_the_width_that_would_do():
    needed = 40
    few = replace(DATA, targets=STATES[:, :needed] @ RANDOM.normal(size=(needed, 96)))
    assert f"At least {needed} units" in refusals(lint(PUBLISHED_MODEL, few))[0].told
    assert refusals(lint(replace(PUBLISHED_MODEL, last_width=needed), few)) == []


def test_rank_check_does_not_depend_on_the_unit_of_a_feature():
    scaled = replace(DATA, targets=STATES * np.repeat([1.0, 1e-6], 48), dim=None)
    share = [lint(PUBLISHED_MODEL, data)[0].told.partition(" misses ")[2].split()[0] for data in (DATA, scaled)]
    assert share[0] == share[1]


@pytest.mark.parametrize("rank", [0, 1, 5, 11, 12])
def test_rank_residual_is_that_of_the_truncated_singular_values(rank):
    values = RANDOM.normal(size=(300, 12)) @ RANDOM.normal(size=(12, 12)) + 7.0
    mean = values.mean(axis=0)
    left, size, right = np.linalg.svd(values - mean, full_matrices=False)
    best = left[:, :rank] @ np.diag(size[:rank]) @ right[:rank] + mean
    residual = rank_residual(values, rank)
    assert np.allclose(residual, values - best, rtol=0, atol=SUM_OF_SQUARES * np.abs(values).max())
    assert np.sum(residual**2) == pytest.approx(np.sum(size[rank:] ** 2), abs=SUM_OF_SQUARES * np.sum(size**2))


def test_no_linear_layer_from_few_units_comes_nearer_than_the_rank_residual():
    """Least squares from any `rank` numbers a sample, also from those that the best components see."""
    values, rank = STATES[:500, :12], 4
    least = np.sum(rank_residual(values, rank) ** 2)
    principal = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)[2][:rank]
    inputs = [
        values @ principal.T,
        *(RANDOM.normal(size=(500, rank)) for _ in range(5)),
        values[:, :rank],
        np.tanh(values[:, 3:7]),
    ]
    reached = []
    for units in inputs:
        biased = np.column_stack([units, np.ones(500)])
        weights = np.linalg.lstsq(biased, values, rcond=None)[0]
        reached.append(np.sum((values - biased @ weights) ** 2))
    assert reached[0] == pytest.approx(least, rel=SUM_OF_SQUARES)
    assert min(reached) >= least * (1 - SUM_OF_SQUARES)


def test_precision_tells_the_error_after_one_step_and_the_step_that_would_do():
    """float32 in a box of 6 at 4000 Δ: 2⁻²⁴ · 6 · e^{2.85·4}, about 3e-2."""
    data = replace(LONG_STEP, extent=BOX)
    (told,) = [finding.told for finding in lint(GOOD_MODEL, data)]
    error = BOX * 2.0**-24
    assert f"becomes {error * math.exp(LYAPUNOV * 4):.1e}" in told
    longest = float(told.partition("at most ")[2].split()[0])
    at_longest = error * math.exp(LYAPUNOV * longest)
    assert at_longest == pytest.approx(linting.TOLERATED_ERROR, rel=0.1)
    assert lint(GOOD_MODEL, replace(data, time_step=0.98 * longest)) == []


def test_refusals_can_be_overruled_by_name_and_only_by_a_name_that_there_is():
    found = lint(PUBLISHED_MODEL, replace(DATA, validation_systems=DATA.train_systems))
    assert [finding.name for finding in refusals(found)] == ["rank", "shared windows"]
    assert [finding.name for finding in refusals(found, {"rank"})] == ["shared windows"]
    assert refusals(found, ["shared windows", "rank"]) == []
    with pytest.raises(linting.UnknownCheck, match="'rnk'; there are: rank, precision") as refused:
        refusals([], ["rnk"])
    assert refused.value.exit_code == 2


def test_gravest_findings_come_first():
    levels = [finding.level for finding in lint(PUBLISHED_MODEL, replace(LONG_STEP, validation_systems=np.arange(9)))]
    assert levels == sorted(levels, key=linting.LEVELS.index)
    assert set(levels) == set(linting.LEVELS)


def test_table_keeps_every_word_within_its_width():
    found = lint(PUBLISHED_MODEL, LONG_STEP)
    table = render(found, width=80)
    assert max(map(len, table.splitlines())) <= 80
    assert table.split()[3:] == [word for f in found for word in f"{f.level} {f.name} {f.told}".split()]
    assert render([Finding("units", "warn", "No units.")]).splitlines()[1].split() == ["warn", "units", "No", "units."]
    assert "nothing found" in render([])


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        (replace(GOOD_MODEL, features=6), DATA, r"\(samples, 6\), not \(4000, 96\)"),
        (GOOD_MODEL, replace(DATA, targets=STATES[:0]), r"not \(0, 96\)"),
        (GOOD_MODEL, replace(DATA, dim=5), "96 features"),
        (replace(GOOD_MODEL, dtype="float8"), DATA, "'float8'"),
    ],
)
def test_facts_that_do_not_fit_together_are_an_error(model, data, told):
    with pytest.raises(ValueError, match=told):
        lint(model, data)
