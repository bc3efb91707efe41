"""Paths of least action between two states, and how else such paths are found."""
