"""`mlmd train --check` of a potential: what it says of data and descriptors, before any epoch."""

from mlmd import config
from mlmd.stages import generate, potential_check
from tests.stages.tiny_potential import MODEL, write_run


def test_data_are_told_and_a_first_function_beyond_the_shortest_distance_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_run(tmp_path / "run.yaml", "checked", "out")
    generate.generate(config.load(path), "mlmd generate", 0, 1)
    told = potential_check.check_only(config.load(path))
    assert "18 configurations to train on, 6 to validate, of 8 atoms (metal units)" in told
    assert "by 8 descriptors" in told
    assert "warning" not in told
    late = write_run(tmp_path / "late.yaml", "checked", "out", model={**MODEL, "nearest": 3.0})
    assert "model.nearest should be below" in potential_check.check_only(config.load(late))
    assert not (tmp_path / "out" / "model").exists()
