"""What is measured of one scheme while effective forces are rolled out, piece by piece of the time."""

from dataclasses import dataclass, fields

import numpy as np

from mlmd.analysis import dynamics, effective_forces, structure
from mlmd.physics.potentials import LennardJones
from mlmd.state import OverlappingAtoms

# Points of the energy's curve; large steps between frames whose pairs and clusters are counted; shells and lags.
POINTS, EVERY, BINS, LAGS = 100, 10, 60, 30


@dataclass(frozen=True)
class Sight:
    """What is looked at: in a box of edges (2,), the large timestep and how many there are.

    look: large steps from one point of the energy's curve to the next, which goes into all of them; every: from one
    frame whose pairs and clusters are counted to the next; lags of the autocorrelation.
    """

    potential: LennardJones
    box: np.ndarray
    coarse: float
    steps: int
    look: int
    every: int
    lags: int
    shells: np.ndarray

    @classmethod
    def of(cls, potential: LennardJones, box: np.ndarray, coarse: float, steps: int) -> "Sight":
        """As fine as is worth its time."""
        look = next(n for n in range(max(1, steps // POINTS), steps + 1) if steps % n == 0)
        lags, every = min(LAGS, steps - 1), min(EVERY, steps)
        return cls(potential, box, coarse, steps, look, every, lags, structure.shells(box, bins=BINS))


@dataclass
class Curves:
    """Sums over the frames so far, of each configuration first; `sight` says what of.

    close, lost: large steps, NaN where never. windows: stretches over which autocorrelations were averaged, frames:
    counted for pairs and clusters, moving: for the kinetic energy.
    """

    sight: Sight
    energy: np.ndarray
    close: np.ndarray
    lost: np.ndarray
    pairs: np.ndarray
    clusters: np.ndarray
    potential: np.ndarray
    frames: np.ndarray
    autocorrelation: np.ndarray
    windows: np.ndarray
    kinetic: np.ndarray
    moving: np.ndarray
    first_momentum: np.ndarray
    momentum: np.ndarray

    @classmethod
    def begun(cls, sight: Sight, position: np.ndarray, velocity: np.ndarray) -> "Curves":
        """Before any step, with the start's energy."""
        count, atoms = position.shape[:2]
        energy = np.full((count, sight.steps // sight.look + 1), np.nan)
        energy[:, 0] = _energies(sight, position[:, None], velocity[:, None])[1][:, 0]
        never, none = np.full(count, np.nan), np.zeros(count)
        return cls(
            *(sight, energy, never.copy(), never.copy(), np.zeros((count, len(sight.shells) - 1))),
            *(np.zeros((count, atoms)), none.copy(), none.copy(), np.zeros((count, sight.lags + 1))),
            *(none.copy(), none.copy(), none.copy(), velocity.mean(axis=1), none.copy()),
        )

    @classmethod
    def restored(cls, sight: Sight, start: tuple[np.ndarray, np.ndarray], arrays: dict[str, np.ndarray]) -> "Curves":
        """As `arrays` gave them."""
        found = cls.begun(sight, *start)
        for name, values in arrays.items():
            setattr(found, name, values)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but what is looked at, to be saved."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sight"}

    def look(self, position: np.ndarray, velocity: np.ndarray, close: np.ndarray, done: int, stride: int) -> None:
        """Adds the frames (configurations, 1 + ahead, atoms, 2) after large step `done`; NaN where lost.

        close (configurations,): in which of the scheme's own steps a pair came near, −1 for none; stride: of these in
        a large step.
        """
        whole = np.isfinite(velocity).all(axis=(2, 3))
        numbers = done + np.arange(position.shape[1])
        gone = ~whole[:, -1] & np.isnan(self.lost)
        self.lost[gone] = done + np.argmin(whole[gone], axis=1)
        near = (close >= 0) & np.isnan(self.close)
        self.close[near] = done + close[near] / stride
        self._add_energy(position[:, 1:], velocity[:, 1:], numbers[1:])
        sound = np.flatnonzero(whole.all(axis=1))
        self._count(sound, position[sound, 1:], velocity[sound, 1:], numbers[1:])

    def kept(self, timestep: float, stride: int) -> dict[str, np.ndarray]:
        """What an item has of the scheme, but for the distance and the time that its steps take."""
        sight, lost = self.sight, ~np.isnan(self.lost)
        counted = np.where(lost, 0, self.frames).astype(int)
        frames, windows, moving = (np.where(lost, np.nan, part) for part in (self.frames, self.windows, self.moving))
        last = np.where(lost, np.nan_to_num(self.lost), sight.steps)
        return {
            "timestep": np.array(timestep),
            "time": sight.coarse * sight.look * np.arange(self.energy.shape[1]),
            "energy": self.energy,
            "close_time": sight.coarse * self.close,
            "lost_time": sight.coarse * self.lost,
            "steps": (last * stride).astype(int),
            "pairs": np.where(lost[:, None], 0, self.pairs).astype(int),
            "counted": counted,
            "autocorrelation": self.autocorrelation / windows[:, None],
            "kinetic": self.kinetic / moving,
            "potential": self.potential / frames,
            "clusters": self.clusters / frames[:, None],
            "momentum": np.where(lost, np.nan, self.momentum),
        }

    def _add_energy(self, position: np.ndarray, velocity: np.ndarray, numbers: np.ndarray) -> None:
        here = numbers % self.sight.look == 0
        if here.any():
            places = numbers[here] // self.sight.look
            self.energy[:, places] = _energies(self.sight, position[:, here], velocity[:, here])[1]

    def _count(self, sound: np.ndarray, position: np.ndarray, velocity: np.ndarray, numbers: np.ndarray) -> None:
        """Adds to the sums of the configurations that are whole to the end of the piece."""
        if not len(sound):
            return
        self.kinetic[sound] += dynamics.kinetic_energy_per_degree_of_freedom(velocity).sum(axis=1)
        self.moving[sound] += len(numbers)
        drift = np.abs(velocity.mean(axis=2) - self.first_momentum[sound, None]).max(axis=(1, 2))
        self.momentum[sound] = np.maximum(self.momentum[sound], drift)
        if len(numbers) > self.sight.lags:
            self.autocorrelation[sound] += dynamics.velocity_autocorrelation(velocity, self.sight.lags)
            self.windows[sound] += 1
        some = numbers % self.sight.every == 0
        if not some.any():
            return
        chosen = position[:, some]
        for place, frames in zip(sound, chosen, strict=True):
            self.pairs[place] += structure.pair_histogram(frames, self.sight.box, self.sight.shells)
        self.clusters[sound] += effective_forces.cluster_shares(chosen, self.sight.box).sum(axis=1)
        self.potential[sound] += _energies(self.sight, chosen, velocity[:, some])[0].sum(axis=1)
        self.frames[sound] += np.count_nonzero(some)


def _energies(sight: Sight, position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Potential and total energy per particle (configurations, frames); NaN where lost or on top of each other."""
    atoms = position.shape[2]
    potential = np.full(position.shape[:2], np.nan)
    whole = np.isfinite(position).all(axis=(2, 3))
    try:
        potential[whole] = sight.potential.energies(position[whole], sight.box) / atoms
    except OverlappingAtoms:
        potential[whole] = [_energy(sight, one) / atoms for one in position[whole]]
    kinetic = 0.5 * np.square(velocity).sum(axis=(2, 3)) / atoms
    return potential, potential + kinetic


def _energy(sight: Sight, position: np.ndarray) -> float:
    try:
        return float(sight.potential.energies(position, sight.box))
    except OverlappingAtoms:
        return np.nan
