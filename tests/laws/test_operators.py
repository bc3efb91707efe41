"""Every kind of trained operator: alone as in a batch, in pieces as in one go, and what is not finite stays its own."""

import numpy as np
import pytest

from mlmd.config import MODELS
from mlmd.config.models import PotentialModel, SpinModel
from mlmd.models import MODELS as KERAS_MODELS
from mlmd.models import saved_potential
from mlmd.rollout import force_steps, spin_steps
from mlmd.rollout.compiled import KINDS
from tests.helpers import operator_example


def test_every_kind_has_its_section_its_model_and_its_compiled_form():
    potentials = {name for name, section in MODELS.items() if issubclass(section, PotentialModel)}
    assert set(MODELS) - potentials == set(KERAS_MODELS) == set(KINDS) | set(spin_steps.KINDS) | set(force_steps.KINDS)
    assert potentials == set(saved_potential.KINDS)
    assert {name for name, section in MODELS.items() if issubclass(section, SpinModel)} == set(spin_steps.KINDS)


@pytest.fixture(params=KINDS)
def example(request):
    """An operator with windows (systems, window, features) and parameters (systems,)."""
    return operator_example(request.param)


def close(found, expected):
    """To some tens of roundings: systems side by side may be summed in another order than one alone."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def one_of(parameters, system):
    return {name: values[system : system + 1] for name, values in parameters.items()}


def test_a_batch_is_its_systems_one_by_one(example):
    operator, windows, parameters = example
    together = operator.advance(windows, parameters, 4)
    assert together.shape == (len(windows), 4, operator.features)
    for system in range(len(windows)):
        alone = operator.advance(windows[system : system + 1], one_of(parameters, system), 4)
        close(together[system], alone[0])


def test_pieces_of_a_rollout_are_the_whole(example):
    operator, windows, parameters = example
    whole = operator.advance(windows, parameters, 6)
    first = operator.advance(windows, parameters, 2)
    window = np.concatenate([windows, first], axis=1)[:, -operator.window :]
    rest = operator.advance(window, parameters, 4)
    # Not to the bit: an operator may keep more than the state while it runs, such as the orbit it is on.
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), whole, rtol=1e-9, atol=1e-9)


def test_nothing_that_is_given_is_changed(example):
    operator, windows, parameters = example
    kept = windows.copy(), {name: values.copy() for name, values in parameters.items()}
    operator.advance(windows, parameters, 3)
    assert windows.tobytes() == kept[0].tobytes()
    assert all(parameters[name].tobytes() == values.tobytes() for name, values in kept[1].items())


def test_a_system_that_is_not_finite_stops_alone(example):
    operator, windows, parameters = example
    sound = operator.advance(windows, parameters, 3)
    broken = windows.copy()
    broken[1, -1, 0] = np.nan
    found = operator.advance(broken, parameters, 3)
    assert np.isnan(found[1]).all()
    others = np.arange(len(windows)) != 1
    close(found[others], sound[others])


def test_no_steps_are_no_frames(example):
    operator, windows, parameters = example
    assert operator.advance(windows, parameters, 0).shape == (len(windows), 0, operator.features)
