"""Installs the packages `hpc` and `mlmd` and the command `mlmd`; versions are pinned in jobs/constraints.txt."""

from setuptools import find_packages, setup

setup(
    name="mlmd",
    version="0.1.0",
    description="Learning and accelerating the dynamics of atoms and spins, as batch jobs",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["hpc", "hpc.*", "mlmd", "mlmd.*"]),
    package_data={
        "mlmd": [
            "analysis/published/*.json",
            "datasets/end_states_data/*",
            "interfaces/lammps/plugin/*.t*",
            "interfaces/lammps/plugin/*/*",
            "physics/potentials/parameters/*",
            "stages/*.html",
        ]
    },
    install_requires=[
        "ase",
        "click",
        "dask",
        "dask-jobqueue",
        "dask-mpi",
        "distributed",
        "h5py",
        "horovod==0.28.1",
        "jinja2",
        "keras>=3",
        "matplotlib",
        "mpi4py",
        "numba",
        "numpy<2.1",
        "pydantic>=2.10",
        "pyyaml",
        "scipy",
        "tqdm",
        "zarr>=3.1",
    ],
    extras_require={"test": ["pytest", "pytest-benchmark", "pytest-timeout", "ruff"]},
    entry_points={"console_scripts": ["mlmd=mlmd.cli:main"]},
)
