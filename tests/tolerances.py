"""The tolerances of all tests, by name, each with its reason. Relative to the largest value compared."""

# The same operations in the same order: every bit.
EXACT = 0.0
# A handful of operations in double precision, each wrong by at most 1.1e-16.
ROUNDING = 1e-14
# Thousands of steps, each of which rounds: the errors add up.
MANY_STEPS = 1e-10
# Sixth-order central differences with a spacing of 1e-3: the seventh derivative of the rugged potential times
# spacing⁶/140 is 3e-11, rounding divided by the spacing 1e-12.
DIFFERENCES = 1e-9
# Second-order central differences of a trajectory, spacing 1e-5: its third derivative times spacing² and rounding
# over the spacing are both near 1e-10, and the stretching of phase space multiplies them.
TRAJECTORY_DIFFERENCES = 1e-6
# The measured order of convergence: the next order's share at the steps used.
ORDER = 0.1
