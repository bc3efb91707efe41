"""A trained potential → the files of another program."""

from pathlib import Path

from hpc import atomic
from mlmd.models import load_potential
from mlmd.state import InvalidInput


def export(model_dir: Path, path: Path, kind: str) -> str:
    """Writes the potential of `model_dir` to `path`, a file for "lammps", a folder for "n2p2"; returns what to print.

    Each file is replaced whole. Raises InvalidInput for a folder without a potential, for a committee, and for a
    potential that the format cannot say.
    """
    from mlmd.interfaces import lammps, n2p2

    potential = load_potential(model_dir)
    if hasattr(potential, "members"):
        raise InvalidInput(f"{model_dir}: is a committee; export one of its members, such as {model_dir}/member0")
    if kind == "lammps":
        (text,) = lammps.files(potential).values()
        atomic.write_text(path, text)
        return f"{path}: pair_style nn/manybody; pair_coeff * * {path} {' '.join(potential.elements)}"
    files = n2p2.files(potential)
    for name, text in files.items():
        atomic.write_text(path / name, text)
    return f"{path}: {', '.join(files)}"
