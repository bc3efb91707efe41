"""Stand-ins for Slurm's programs, as far as job scripts and Dask's worker jobs call them, on this machine alone.

`install` writes srun, sbatch, scontrol, squeue and scancel into a folder that is put first in PATH. srun starts ranks
by mpirun, or a program directly for one; sbatch starts a script as a process; `scontrol requeue` leaves a file for
whoever runs the job. Each says on standard error that it is a stand-in. What they share lies in the folder that the
variable MLMD_REHEARSAL names: a file `requeue-<job>` for each wish, a folder `jobs/<number>` for each job of sbatch.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

FOLDER = "MLMD_REHEARSAL"
# Open MPI, old and new, and MPICH ask Slurm's real programs for nodes where they see a job's variables.
ALONE = {
    **dict.fromkeys(("PRTE_MCA_ras", "PRTE_MCA_plm", "OMPI_MCA_ras", "OMPI_MCA_plm"), "^slurm"),
    "HYDRA_RMK": "user",
    "HYDRA_LAUNCHER": "fork",
}
# Options of srun and sbatch that stand alone; every other one has a value.
FLAGS = {f"-{letter}" for letter in "luvQOKskIHEX"}
FLAGS |= {"--parsable", "--exclusive", "--overlap", "--exact", "--requeue", "--label", "--array"}
FIRST_JOB = 500_000


def install(folder: Path) -> None:
    """Writes the programs into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        program = folder / name
        words = [sys.executable, "-P", str(Path(__file__).resolve()), name]
        program.write_text(f'#!/bin/bash\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)


def requeued(folder: Path, job: str) -> bool:
    """Whether `job` has asked to be put back into the queue since this was asked last."""
    wish = folder / f"requeue-{job}"
    there = wish.exists()
    wish.unlink(missing_ok=True)
    return there


def srun(words: list[str]) -> int:
    """Becomes the program, or mpirun with so many ranks of it."""
    options, program = _options(words)
    ranks = int(options.get("--ntasks", options.get("-n", os.environ.get("SLURM_NTASKS", "1"))))
    _say("srun", f"{ranks} ranks by mpirun" if ranks > 1 else "one process")
    if ranks > 1:
        told = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout
        freely = ["--bind-to", "none", "--oversubscribe"] if re.search("open.?mpi", told, re.IGNORECASE) else []
        program = ["mpirun", "-np", str(ranks), *freely, *program]
        os.environ |= dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
    os.execvp(program[0], program)  # noqa: S606  its signals and its end are the program's own


def scontrol(words: list[str]) -> int:
    """`requeue` is obeyed, `ping` is answered, and nothing else is known."""
    if words[:1] == ["requeue"] and len(words) == 2:
        (_folder() / f"requeue-{words[1]}").touch()
        _say("scontrol", f"job {words[1]} goes back into the queue")
        return 0
    if words == ["ping"]:
        print(f"Slurmctld(a stand-in) at {socket.gethostname()} is UP")
        return 0
    _say("scontrol", f"it does not know `{shlex.join(words)}`")
    return 1


def sbatch(words: list[str]) -> int:
    """Starts the script at once, in a session of its own."""
    options, program = _options(words)
    if {"--array", "-a"} & options.keys():
        _say("sbatch", "it starts no arrays")
        return 1
    script = Path(program[0]).read_text() if program else sys.stdin.read()
    number = FIRST_JOB
    while True:
        folder = _folder() / "jobs" / str(number)
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
    (folder / "script").write_text(script)
    environment = {**os.environ, "SLURM_JOB_ID": str(number), "SLURM_NTASKS": "1"}
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen(
            ["bash", str(folder / "script"), *program[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(started.pid))
    _say("sbatch", f"job {number} starts as process {started.pid}")
    print(number if "--parsable" in options else f"Submitted batch job {number}")
    return 0


def squeue(words: list[str]) -> int:
    """The jobs of the stand-in sbatch that are asked for, or all; an error where none of them is known."""
    options, _ = _options(words)
    known = {path.name: path for path in (_folder() / "jobs").glob("*")}
    asked = options.get("--jobs", options.get("-j", ",".join(known))).split(",")
    form = options.get("--format", options.get("-o", "%A %T"))
    found = [job for job in asked if job in known]
    if asked != [""] and not found:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    for job in found:
        said = {"A": job, "i": job, "T": _state(known[job]), "r": "None", "L": "UNLIMITED"}
        print(re.sub(r"%\.?\d*([A-Za-z])", lambda letter, said=said: said.get(letter[1], ""), form))
    return 0


def scancel(words: list[str]) -> int:
    """TERM to all of a job's processes."""
    _, jobs = _options(words)
    for job in jobs:
        file = _folder() / "jobs" / job / "pid"
        if file.exists():
            with suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGTERM)
    return 0


def _state(folder: Path) -> str:
    file = folder / "pid"
    if not file.exists():
        return "PENDING"
    try:
        os.killpg(int(file.read_text()), 0)
    except ProcessLookupError:
        return "COMPLETED"
    return "RUNNING"


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options with their values, and the words from the first that is none."""
    options, rest = {}, list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2:
            name, value = word[:2], word[2:]
        elif not equals and name not in FLAGS and not name.startswith("--no") and rest:
            value = rest.pop(0)
        options[name] = value
    return options, rest


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _say(name: str, what: str) -> None:
    print(f"{name}: {what} (a stand-in of mlmd rehearse, {time.strftime('%H:%M:%S')})", file=sys.stderr, flush=True)


PROGRAMS = {"srun": srun, "sbatch": sbatch, "scontrol": scontrol, "squeue": squeue, "scancel": scancel}

if __name__ == "__main__":
    if FOLDER not in os.environ:
        sys.exit(f"{sys.argv[1]}: a stand-in that belongs to a rehearsal ({FOLDER} is not set)")
    sys.exit(PROGRAMS[sys.argv[1]](sys.argv[2:]))
