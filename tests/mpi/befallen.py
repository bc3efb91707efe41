"""Programs for several ranks, one of which something befalls, and what the others are to say of it."""

import re

# Exchanges in steps 39, 40 and 41; before the last, something befalls one rank.
EXCHANGES = """
import ctypes, os, signal, sys, time
import numpy as np
from hpc import errors, ranks
from hpc.preempt import StopFlag
fault, culprit, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def befall():
    if fault == "sleeps": time.sleep(600)
    if fault == "is stopped": os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "holds the interpreter": ctypes.PyDLL(None).sleep(600)
    if fault == "is killed":
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "ends": sys.exit(0)
    if fault == "exits": sys.exit(2)
    if fault == "refuses": raise errors.StoreMissing("data/x.zarr", "mlmd generate run.yaml")
    if fault == "fails": raise errors.DamagedItems("data/x.zarr", [7], "mlmd verify run.yaml --repair")
    if fault == "breaks": raise ValueError("of two\\nlines")
# Once without, once with the time limit: the ranks do not start at the same moment.
ranks.start("mpi")
from mpi4py import MPI
try:
    with StopFlag(), ranks.start("mpi", timeout) as me:
        for step in (39, 40, 41):
            if me.rank == culprit and step == 41:
                befall()
            with me.guard(f"step {step} (epoch 3)"):
                if fault == "sleeps inside":
                    if me.rank == culprit: time.sleep(601)
                    MPI.COMM_WORLD.Barrier()
                me.gather(np.array(me.rank))
except errors.UserError as error:
    sys.exit(error.exit_code)
"""
STARTS = """
import os, sys, time
from pathlib import Path
if sys.argv[1] in (os.environ.get("OMPI_COMM_WORLD_RANK"), os.environ.get("SLURM_PROCID")):
    time.sleep(600)
from hpc import ranks
ranks.start("mpi", 4.0, Path("out"))
"""
LATE = "has not come to step 41 (epoch 3): it left step 40 (epoch 3)"
SILENT = "does not answer: it took part in step 40 (epoch 3)"
LAST = "has ended after step 40 (epoch 3)"


def line_of(text):
    """The number of the first line of EXCHANGES that holds a text."""
    return next(number for number, line in enumerate(EXCHANGES.splitlines(), 1) if text in line)


def lines(stderr):
    """What the ranks say, whatever Open MPI puts before it."""
    return re.findall("mlmd: .*", stderr)


def the_line(stderr):
    """The one line that all ranks say together."""
    (line,) = lines(stderr)
    return line
