"""How a way of stepping with a timestep is called in items and tables."""


def scheme_name(kind: str, timestep: float) -> str:
    """`plain_1e-2` of ("plain", 0.01): all digits that the timestep has."""
    mantissa, exponent = f"{timestep:.12e}".split("e")
    return f"{kind}_{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
