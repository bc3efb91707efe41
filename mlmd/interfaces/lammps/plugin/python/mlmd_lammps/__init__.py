"""The pair style nn/manybody: LAMMPS' `lmp` asks for the folder in which the compiled plugin lies."""

from pathlib import Path


def folder() -> str:
    """Where mlmdplugin.so is."""
    return str(Path(__file__).resolve().parent)
