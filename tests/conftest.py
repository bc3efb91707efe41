"""What every test runs under: division by zero, invalid operations and overflow in numpy are errors.

Warnings are errors too, by pyproject.toml.
"""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        yield


@pytest.fixture
def awkward_folder(tmp_path):
    """A folder whose path breaks programs that join words into a command line."""
    folder = tmp_path / 'it\'s a "run" $HOME ü'
    folder.mkdir()
    return folder
