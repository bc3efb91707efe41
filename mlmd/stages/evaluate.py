"""A trained potential beside what is known of configurations in files: its errors, a line a file.

Everything is read and looked at before anything is computed: labels that are missing, species that the model does not
know, other units.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc import atomic
from mlmd.analysis import potential_errors
from mlmd.analysis.potential_errors import Errors
from mlmd.interfaces import frames, reference_npz
from mlmd.interfaces.frames import Configurations, UnusableFile
from mlmd.state import InvalidInput, SimulationFailure

ENERGY = "energy"
HEAD = ("file", "frames", "atoms", "energy", "|energy|", "shift", "force", "|force|", "virial", "worst atom")


def evaluate(model_dir: Path, files: Sequence[Path], out: Path | None = None, energy_key: str = ENERGY) -> str:
    """The errors of the model in `model_dir` on `files`, as a table to print.

    Files are .npz with the keys of the reference files, .xyz, .extxyz, .h5, .hdf5 or .h5md; `energy_key` names the
    energies of npz files. `out` is a JSON file that is written with the same numbers. Raises UnusableFile before any
    work, naming file, frame and what is missing, and what the potential raises, with the frame.
    """
    from mlmd.models import load_potential

    potential = load_potential(model_dir)
    given = [read(Path(file), potential, energy_key) for file in files]
    if not given:
        raise UnusableFile("evaluate: needs a file of configurations or more")
    found = {configurations.source: errors_of(potential, configurations) for configurations in given}
    if out is not None:
        told = {file: potential_errors.numbers(errors, potential.units) for file, errors in found.items()}
        atomic.write_json(out, {"schema": 1, "model": str(model_dir), "units": potential.units, "files": told})
    return table(str(model_dir), potential.units, found)


def read(file: Path, potential: Any, energy_key: str = ENERGY) -> Configurations:
    """A file's configurations, of which the potential can say something. Raises UnusableFile."""
    if energy_key == ENERGY:
        found = frames.read(file, potential.units)
    elif file.suffix.lower() == ".npz":
        found = reference_npz.read(file, energy_key)
    else:
        raise UnusableFile(f"{file}: energies have other names, as {energy_key!r}, in .npz files alone")
    if found.units not in (None, potential.units):
        raise UnusableFile(f"{file}: its units are {found.units}, the potential's {potential.units}")
    frames.require(found)
    frames.require_species(found, potential.elements)
    return found


def errors_of(potential: Any, configurations: Configurations) -> Errors:
    """As `potential_errors.errors`, whose exceptions name the file too."""
    from mlmd.models.neural_network_potential import ExtrapolationWarning

    try:
        with warnings.catch_warnings():
            # The table tells how many atoms are extrapolated.
            warnings.simplefilter("ignore", ExtrapolationWarning)
            return potential_errors.errors(potential, configurations.frames)
    except InvalidInput as error:
        raise InvalidInput(f"{configurations.source}: {error}") from error
    except SimulationFailure as error:
        told = f"{configurations.source}: {error}".replace("{", "{{").replace("}", "}}")
        raise SimulationFailure(told) from error


def table(model: str, units: str, found: Mapping[str, Errors]) -> str:
    """Errors by file as lines of text."""
    scale, energy, force = potential_errors.TOLD_IN[units]
    lines = [HEAD, *(_line(file, errors, scale, force) for file, errors in found.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    aligned = [
        "  ".join([line[0].ljust(widths[0]), *(w.rjust(n) for w, n in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]
    what = f"energy and virial {energy}/atom, force {force} a component"
    how = "root mean squares; |…| means, shift mean E − E_ref"
    return "\n".join([f"{model}: {what}: {how}", *aligned, *_extrapolated(found)])


def _line(file: str, errors: Errors, scale: float, force: str) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{scale * value:.4g}"

    worst = errors.worst
    return (
        file,
        str(errors.frames),
        str(errors.atoms),
        *map(number, (errors.energy_rmse, errors.energy_mae, errors.energy_mean)),
        *map(number, (errors.force_rmse, errors.force_mae, errors.virial_rmse)),
        f"{number(worst.error)} {force}, frame {worst.frame}, atom {worst.atom}",
    )


def _extrapolated(found: Mapping[str, Errors]) -> list[str]:
    """A line for each file with atoms that the model has not seen the like of."""
    told = []
    for file, errors in found.items():
        if errors.extrapolating:
            share = 100.0 * errors.extrapolating / errors.atoms
            what = (
                f"{errors.extrapolating} of {errors.atoms} atoms ({share:.2g} %) lie outside of what the model has seen"
            )
            told.append(f"{file}: extrapolates: {what}")
    if not told and all(errors.extrapolating == 0 for errors in found.values()):
        return ["no atom lies outside of what the model has seen"]
    return told
