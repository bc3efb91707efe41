"""The Keras layer of symmetry functions: the compiled values, and the reference's derivatives by a tape."""

import keras
import numpy as np
import pytest

from mlmd.models.symmetry_layer import SymmetryLayer
from tests.models.test_symmetry_functions import reference


@pytest.fixture(autouse=True)
def double_precision():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def layer_of(name):
    functions, position, box, species, arrays = reference(name)
    kinds = np.array([functions.elements.index(one) for one in species])
    layer = SymmetryLayer(functions)
    return layer, position, layer.lists(position, box, kinds), arrays


@pytest.mark.parametrize("name", ["si3_cluster", "si8_periodic", "si64_liquid", "sio9_cluster", "sio2_72_quartz"])
def test_values_are_the_reference(name):
    layer, position, lists, arrays = layer_of(name)
    np.testing.assert_allclose(np.asarray(layer(position, lists)), arrays["values"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["si8_periodic", "si64_liquid", "sio9_cluster", "sio2_72_quartz"])
def test_gradients_by_a_tape_are_the_reference(name):
    import tensorflow as tf

    layer, position, lists, arrays = layer_of(name)
    place = tf.constant(position)
    with tf.GradientTape() as tape:
        tape.watch(place)
        weighted = tf.reduce_sum(layer(place, lists) * arrays["weight"])
    gradient = tf.convert_to_tensor(tape.gradient(weighted, place)).numpy()
    np.testing.assert_allclose(gradient, arrays["gradient"], rtol=0, atol=1e-10)
