"""The published method as a search of `act`: the network moved down its losses by Keras, phase after phase."""

from collections.abc import Callable
from typing import NamedTuple

from hpc.checkpoint import Checkpoints
from hpc.descent import Descent, Plan
from mlmd.action.gauss_newton import Settings as OurSettings
from mlmd.action.published import NetworkPath, Phase, Published, Settings, Weights
from mlmd.action.rows import relative_residual
from mlmd.stages.act_methods import Found, Search, columns

# Epochs of a round, between which a search can be stopped, and from one row of the history to the next.
TOGETHER, REPORT_EVERY = 100, 1000
# A path of either method is called Newtonian by the same number.
NEWTONIAN = OurSettings().newtonian


class _Network(NamedTuple):
    """What is asked of a basis: how many functions there are to resolve."""

    functions: int


class Descended(NetworkPath):
    """The network's path, which the measures take for one in a basis of its hidden units."""

    @property
    def basis(self) -> _Network:
        """Its hidden units."""
        return _Network(self.network.layers[-1].units)


def descend(search: Search) -> Found:
    """All phases in turn; each has checkpoints of its own, and one that is done only hands its weights on."""
    method = Published(search.ends, search.potential, settings_of(search))
    network = method.network()
    path = Descended(search.ends, network)
    seconds, steps, history, arrays = 0.0, 0, [], {}
    for phase in method.phases:
        if phase.epochs == 0:
            continue
        checkpoints = Checkpoints(search.checkpoints.folder / phase.name, search.checkpoints.lock)
        plan = _plan(method.settings, phase, search.action.checkpoint_seconds)
        descent = Descent(network, phase.objective, plan, checkpoints, _follower(search, path))
        history = descent.run(search.stop)
        seconds, steps = seconds + history[-1]["seconds"], steps + phase.epochs
        arrays |= columns(history, phase.name)
    weights = {f"network_{variable.name}": variable.numpy() for variable in network.trainable_variables}
    newtonian = relative_residual(path, search.potential) < NEWTONIAN
    return Found(path, newtonian, seconds, steps, tuple(history), {**weights, **arrays})


def settings_of(search: Search) -> Settings:
    """What the method is run by; its network starts from the row's random numbers."""
    action, row = search.action, search.row
    position, velocity, energy = row["lambdas"]
    return Settings(
        units=row["units"],
        points=row["grid"],
        pretraining_points=action.pretraining_grid,
        pretraining_epochs=action.pretraining_epochs,
        epochs=action.epochs,
        learning_rate=action.learning_rate,
        weights=Weights(position=position, velocity=velocity, energy=energy),
        nearest=action.minimum_distance,
        dtype=action.dtype,
        seed=int(search.random.integers(2**31)),
        threads=action.threads,
    )


def _plan(settings: Settings, phase: Phase, checkpoint_seconds: float) -> Plan:
    return Plan(
        epochs=phase.epochs,
        learning_rate=settings.learning_rate,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        together=TOGETHER,
        report_every=REPORT_EVERY,
        checkpoint_seconds=checkpoint_seconds,
    )


def _follower(search: Search, path: NetworkPath) -> Callable[[list[dict]], None]:
    """Adds to each new row of the history how far the path is from the reference."""

    def follow(history: list[dict]) -> None:
        if search.follow is not None:
            history[-1]["rmsd"] = search.follow(path)

    return follow
