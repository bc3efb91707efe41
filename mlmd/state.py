"""The state of a simulation, and how one that has gone wrong is reported."""


class NonFiniteState(ValueError):
    """A position, velocity, force or energy that is no longer a finite number.

    `system` is the index in the batch (or a name with it), `atom` the index in the system, `step` the integration
    step after which the value appeared; None where there are no batches or no steps.
    """

    exit_code = 1

    def __init__(self, system: int | str | None, atom: int, step: int | None):
        self.system, self.atom, self.step = system, atom, step
        of_system = "" if system is None else f" of system {system}"
        at_step = "" if step is None else f" at step {step}"
        super().__init__(
            f"atom {atom}{of_system}: its state is not finite{at_step}; "
            "a start within the potential's range or a smaller timestep is the usual cure"
        )

    def __reduce__(self):
        # Exceptions are rebuilt from their message otherwise, which breaks on the way from a worker process.
        return type(self), (self.system, self.atom, self.step)
