import os
import secrets
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy

# The long form tries so many times more examples than the default one, from a seed of its own.
LONGER = 40
set_hypothesis_home_dir(Path(gettempdir()) / "mlmd-fuzzing")
# Reading a broken file is as slow as the machine; and a check that fails is told as it is found first.
settings.register_profile(
    "fuzzing", deadline=None, database=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and none of what a scheduler puts into the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "MLMD_TASK", "MLMD_TASKS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.long)])
def fuzz(request, capsys) -> Callable[..., None]:
    """fuzz(check, examples, *strategies): calls check with so many examples of what the strategies make.

    The default form tries the same few each time. The long one tries more of them, and prints its seed: with
    MLMD_FUZZ_SEED set to that it tries the same again.
    """
    profile = settings.get_profile("fuzzing")

    def run(check: Callable[..., None], examples: int, *strategies: SearchStrategy) -> None:
        tried = hypothesis.given(*strategies)(check)
        if request.param == "short":
            settings(profile, max_examples=examples, derandomize=True)(tried)()
            return
        seed = int(os.environ.get("MLMD_FUZZ_SEED", secrets.randbelow(2**32)))
        with capsys.disabled():
            print(f"\n{request.node.name}: {LONGER * examples} examples, MLMD_FUZZ_SEED={seed}")
        hypothesis.seed(seed)(settings(profile, max_examples=LONGER * examples)(tried))()

    return run
