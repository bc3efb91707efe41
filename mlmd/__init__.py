"""Learning and accelerating the dynamics of atoms and spins, as batch jobs."""

__version__ = "0.1.0"
