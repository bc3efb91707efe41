"""Trained operators at work: compiled inference (`compiled`) and the closed loop around it (`closed_loop`)."""

from mlmd.rollout.closed_loop import BackwardStepper, ForwardStepper, WindowState, rollout
from mlmd.rollout.compiled import CompiledOperator, UnusableModel, load

__all__ = [
    "BackwardStepper",
    "CompiledOperator",
    "ForwardStepper",
    "UnusableModel",
    "WindowState",
    "load",
    "rollout",
]
