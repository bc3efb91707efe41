import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and none of what a scheduler puts into the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "MLMD_TASK", "MLMD_TASKS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
