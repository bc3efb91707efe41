"""The state of a simulation, and how one that has gone wrong is reported."""


class SimulationFailure(ValueError):
    """A state that cannot be simulated, or on from; says which system, atoms and step.

    `system` is the index in the batch (or a name with it); None where there are no batches. `step` is the integration
    step after which it appeared; None where there are no steps.
    """

    exit_code = 1

    def __init__(self, message: str, system: int | str | None = None, step: int | None = None):
        self.system, self.step = system, step
        of_system = "" if system is None else f"system {system}: "
        at_step = "" if step is None else f" at step {step}"
        super().__init__(f"{of_system}{message.format(at_step=at_step)}")


class NonFiniteState(SimulationFailure):
    """A position, velocity, force or energy of `atom` that is no longer a finite number."""

    def __init__(self, system: int | str | None, atom: int, step: int | None):
        self.atom = atom
        super().__init__(
            f"atom {atom}: its state is not finite{{at_step}}; "
            "a start within the potential's range or a smaller timestep is the usual cure",
            system,
            step,
        )

    def __reduce__(self):
        # Exceptions are rebuilt from their message otherwise, which breaks on the way from a worker process.
        return type(self), (self.system, self.atom, self.step)


class OverlappingAtoms(SimulationFailure):
    """Two atoms, `pair`, nearer to each other than anything physical brings them; `distance` in units of length."""

    def __init__(self, system: int | str | None, pair: tuple[int, int], distance: float, step: int | None = None):
        self.pair, self.distance = pair, distance
        super().__init__(
            f"atoms {pair[0]} and {pair[1]} overlap{{at_step}}: their distance is {distance:.3g}; "
            "move one of them, or start from a lattice or a random placement",
            system,
            step,
        )

    def __reduce__(self):
        return type(self), (self.system, self.pair, self.distance, self.step)


class RunawayAtom(SimulationFailure):
    """An atom that moved farther in one step than any sound step takes it: the energy blows up."""

    def __init__(self, system: int | str | None, atom: int, step: int, distance: float):
        self.atom, self.distance = atom, distance
        super().__init__(
            f"atom {atom} moved by {distance:.3g}{{at_step}}: the energy blows up; use a smaller timestep, "
            "or a start without atoms that nearly overlap",
            system,
            step,
        )

    def __reduce__(self):
        return type(self), (self.system, self.atom, self.step, self.distance)


class InvalidInput(ValueError):
    """An array or parameter that cannot be simulated at all, refused before any work."""

    exit_code = 2
