"""LAMMPS: potentials of atomic networks in the form that its pair style nn/manybody reads.

The style itself, in C++, is in `plugin/`; `bash jobs/lammps.sh` makes an environment with LAMMPS and the style in it:

    pair_style nn/manybody
    pair_coeff * * model.nn Si O
"""

from mlmd.interfaces.lammps.model_file import MODEL, export, files, read, text

__all__ = ["MODEL", "export", "files", "read", "text"]
