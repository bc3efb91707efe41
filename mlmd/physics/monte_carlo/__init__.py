"""Metropolis sampling of spins and of Lennard-Jones atoms, and what follows from it: heat capacities."""
