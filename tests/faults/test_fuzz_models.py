"""A model folder in which anything is damaged is read as it was, or refused in one line that names it."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.faults.damage import damaged, damaged_arrays, misplaced
from tests.faults.model_folders import EXAMPLES
from tests.faults.refusals import house_error


def look_at(example, folder):
    found = []
    # As users have it: numbers beyond a double's are infinite there.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if house_error(lambda: found.append(example.load(folder)), folder) is None:
            house_error(lambda: example.use(*found))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_folder_with_other_values_in_it(here, fuzz, kind):
    example = EXAMPLES[kind]

    def check(described, archive):
        example.write(here)
        if described is not None:
            (here / "model.json").write_text(json.dumps(described))
        if archive is not None:
            (here / "weights.npz").write_bytes(archive)
        look_at(example, here)

    fuzz(check, 15, st.none() | misplaced(example.described), st.none() | damaged_arrays(example.weights))


@pytest.mark.parametrize("kind", ["lstm_operator", "unet", "pw", "hdnnp"])
@pytest.mark.parametrize("name", ["model.json", "weights.npz"])
def test_a_folder_with_other_bytes_in_it(here, fuzz, kind, name):
    example = EXAMPLES[kind]
    sound = (example.write(here) / name).read_bytes()

    def check(data):
        (here / name).write_bytes(data)
        look_at(example, here)

    fuzz(check, 15, damaged(sound))
