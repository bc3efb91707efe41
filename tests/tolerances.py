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
# Against LAMMPS' double precision: pair sums in another order.
LAMMPS_PAIRS = 1e-10
# The same for three-body sums, whose constants LAMMPS rounds to 7 to 12 digits: ours must be the same ones.
LAMMPS_MANY_BODY = 1e-8
# Absolute, after 1000 steps: rounding of 1e-15 a step, stretched by at most exp(5) in one unit of time.
LAMMPS_TRAJECTORY = 1e-11
# Positions stored in single precision: 2e-7 off at forces near 20 on 500 atoms, of an energy of 2300.
SINGLE_PRECISION_FILE = 1e-6
# Total energy over a benchmark's run, relative to the kinetic: the jump of a truncated force and the timestep's error.
SHORT_RUN_DRIFT = 0.02
# Spins against a run of eighth order: at t = 1 the two differ by 3e-12; at t = 10 chaos has stretched that a
# thousandfold.
SPINS = 1e-11
SPINS_LATE = 1e-8
# Energy per site and spin lengths after 1e5 turns of every spin: each rounds by 1e-16, at random.
SPIN_CONSERVATION = 2e-13
# Statistical, in standard errors; beyond lies one normal deviate in 16 000. Seeds are fixed.
STANDARD_ERRORS = 4.0
# Sums of up to a few thousand terms in another order, relative to the largest: distances round by 1e-16 of the box,
# and energies of several eV cancel.
SUMS = 1e-11
# Total energy of 16 atoms in two dimensions in 8000 Verlet steps of 1e-4: the method's own error, seen up to 2e-5 ε.
LABEL_ENERGY = 1e-4
# Total energy along velocity Verlet at a timestep of 0.001, over the mean kinetic energy: it swings by 2e-4 in hot
# few-body systems and by 5e-4 in a liquid of 16 atoms, in whose box pairs end before their force does.
VERLET_SWING = 1e-3
