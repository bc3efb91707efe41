"""Free Lennard-Jones clusters that are known in closed form, and the ends of a transition between two of them."""

import numpy as np

from mlmd.state import InvalidInput


def hexagon() -> np.ndarray:
    """The ground state of seven atoms in a plane, (7, 2), in σ: a centre, and six around it.

    Of its 21 pairs 12 are an edge a apart, 6 √3 a and 3 2a, so that U(a) = 4 ε (A a⁻¹² − B a⁻⁶) with
    A = 12 + 6/3⁶ + 3/2¹² and B = 12 + 6/3³ + 3/2⁶, which is least at a⁶ = 2 A/B.
    """
    edge = (2.0 * (12 + 6 / 3**6 + 3 / 2**12) / (12 + 6 / 3**3 + 3 / 2**6)) ** (1 / 6)
    angle = np.arange(6) * np.pi / 3
    return np.concatenate([np.zeros((1, 2)), edge * np.stack([np.cos(angle), np.sin(angle)], axis=1)])


def migration(shift: int = 2) -> np.ndarray:
    """The hexagon (2, 7, 2) before and after its centre atom has gone to the surface.

    Dellago, Bolhuis, Chandler, J. Chem. Phys. 108, 9236 (1998); Passerone, Parrinello, Phys. Rev. Lett. 87, 108302
    (2001). Atoms 0 and 1 change places, and the other five go on around the rim by `shift` seats, 1 to 4; where none
    goes on the two can only pass through each other. The last state is turned such that the atoms go the shortest way,
    Σ|Δ|². With shift 1 that is the shortest way of all that do not lead through each other, with 2 the barrier is
    lower. Raises InvalidInput for another shift.
    """
    if shift not in range(1, 5):
        raise InvalidInput(f"shift: five atoms go on by 1 to 4 seats, not by {shift}")
    first = hexagon()
    seats = np.concatenate([[1, 0], 2 + np.roll(np.arange(5), -shift)])
    # In the plane a turn is a factor e^{iα}: the best one has the phase of Σ z̄′z.
    z = first[:, 0] + 1j * first[:, 1]
    overlap = z[seats].conj() @ z
    last = z[seats] * overlap / np.abs(overlap)
    return np.stack([first, np.stack([last.real, last.imag], axis=1)])
