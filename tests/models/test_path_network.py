"""The network of time: what it says are its derivatives are its derivatives, from weights that a seed names."""

import numpy as np
import pytest

from mlmd.action.published import asked
from mlmd.models import path_network

TIMES = np.linspace(0.0, 0.5, 7)
# Second-order central differences with a spacing of 1e-5: rounding over the spacing.
DIFFERENCES, SPACING = 1e-9, 1e-5
# The same sums in another order.
SINGLE, DOUBLE = 1e-6, 1e-13


def network(dtype="float64", seed=3, spread=1.0):
    return path_network.build(9, 6, dtype, seed, spread)


def written(model, times):
    """Equation S1 as it stands, one output and one unit after the other."""
    w0, b0, w1, b1 = (np.asarray(v, dtype=np.float64) for v in model.trainable_variables)
    values = np.zeros((len(times), len(b1)))
    for m in range(len(b1)):
        for i in range(len(w0)):
            values[:, m] += w1[i, m] / (1.0 + np.exp(-(w0[i] * times + b0[i])))
        values[:, m] += b1[m]
    return values


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", SINGLE), ("float64", DOUBLE)])
def test_values_are_those_of_equation_s1(dtype, tolerance):
    model = network(dtype)
    found = np.asarray(model(asked(TIMES, 0)))
    assert found.dtype == dtype
    expected = written(model, TIMES)
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("order", [0, 1])
def test_each_order_is_the_slope_of_the_one_before(order):
    model = network(spread=3.0)
    ahead, behind = (np.asarray(model(asked(TIMES + step, order))) for step in (SPACING, -SPACING))
    slope = np.asarray(model(asked(TIMES, order + 1)))
    assert np.abs(slope).max() > 1.0
    np.testing.assert_allclose((ahead - behind) / (2 * SPACING), slope, atol=DIFFERENCES * np.abs(slope).max())


def test_all_orders_together_are_each_alone():
    model = network()
    together = np.asarray(model(asked(TIMES, 0, 1, 2))).reshape(3, len(TIMES), 6)
    for order in range(3):
        np.testing.assert_allclose(together[order], np.asarray(model(asked(TIMES, order))), atol=DOUBLE)


def test_a_seed_names_the_weights():
    def weights(seed):
        return [np.asarray(v).tobytes() for v in network(seed=seed).trainable_variables]

    assert weights(3) == weights(3)
    assert all(one != other for one, other in zip(weights(3), weights(4), strict=True))


def test_weights_are_gaussian_with_the_spread_asked_for():
    model = path_network.build(200, 300, "float32", 1, 0.01)
    drawn = np.concatenate([np.asarray(v).ravel() for v in model.trainable_variables]) / 0.01
    # Moments of a Gaussian, to three standard errors of 60 000 draws.
    assert abs(drawn.mean()) < 3 / np.sqrt(len(drawn))
    assert abs(drawn.std() - 1) < 3 / np.sqrt(2 * len(drawn))
    assert abs((drawn**4).mean() - 3) < 3 * np.sqrt(96 / len(drawn))
