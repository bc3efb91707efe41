"""Potentials, integrators and what they stand on: arrays in, arrays out."""
