"""A fourth-order symplectic integrator: the classical rival of any learned large step.

Blanes, Moan, J. Comput. Appl. Math. 142, 313 (2002), the symmetric Runge–Kutta–Nyström method with six stages: kicks
b₁ … b₄ … b₁ around drifts a₁ a₂ a₃ a₃ a₂ a₁. Six forces a step; its error at equal cost is far below that of the
fourth-order compositions of Verlet steps.
"""

from typing import ClassVar

from mlmd.physics.integrators.splitting import Splitting

_A1, _A2 = 0.245298957184271, 0.604872665711080
_B1, _B2, _B3 = 0.0829844064174052, 0.396309801498368, -0.0390563049223486
_A3, _B4 = 0.5 - (_A1 + _A2), 1.0 - 2.0 * (_B1 + _B2 + _B3)


class Symplectic4(Splitting):
    """The six-stage method of order 4 for any potential, in any dimension."""

    order: ClassVar[int] = 4
    kicks = (_B1, _B2, _B3, _B4, _B3, _B2, _B1)
    drifts = (_A1, _A2, _A3, _A3, _A2, _A1)
