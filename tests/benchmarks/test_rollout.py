"""Microseconds a step of compiled inference, one core: window 5, two LSTM layers of 32 units."""

import numpy as np
import pytest

from mlmd.rollout import CompiledOperator
from mlmd.rollout.lstm_operator import weight_shapes

STEPS = 2000


@pytest.mark.parametrize("features", [2, 96])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_closed_loop(benchmark, dtype, features):
    random = np.random.default_rng(0)
    weights = {name: 0.3 * random.normal(size=shape) for name, shape in weight_shapes(features, 32).items()}
    weights["input_scale"] = np.ones(features)
    model = CompiledOperator("harmonic", 100, 0.001, 5, features, 32, True, dtype, weights)
    window = random.normal(size=(5, features))
    benchmark(model.run, window, STEPS)
    if benchmark.stats is not None:  # absent under --benchmark-disable
        benchmark.extra_info["us_per_step"] = benchmark.stats.stats.min / STEPS * 1e6
        print(f"\n{dtype}, {features} features: {benchmark.extra_info['us_per_step']:.2f} us a step")
