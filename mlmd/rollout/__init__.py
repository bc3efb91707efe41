"""Trained operators at work: compiled inference (`compiled`) and the closed loop around it (`closed_loop`)."""

from mlmd.rollout.closed_loop import BackwardStepper, ForwardStepper, WindowState, rollout
from mlmd.rollout.compiled import load
from mlmd.rollout.lstm_operator import CompiledOperator
from mlmd.rollout.operator import Operator, UnusableModel

__all__ = [
    "BackwardStepper",
    "CompiledOperator",
    "ForwardStepper",
    "Operator",
    "UnusableModel",
    "WindowState",
    "load",
    "rollout",
]
