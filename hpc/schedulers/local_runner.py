"""The process that runs one local job: `python -m hpc.schedulers.local_runner .mlmd-jobs/7`.

It waits for the job's parents, starts its tasks and starts those again that stopped at a checkpoint.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from hpc.atomic import write_json
from hpc.errors import EXIT_STOPPED
from hpc.schedulers.base import FINAL, State
from hpc.schedulers.local import Local, lock, read_states

POLL_S = 0.1
# What an order makes of a task.
END: dict[str, State] = {"cancel": "cancelled", "requeue": "pending"}
# As long as Slurm's default KillWait: time for a checkpoint.
GRACE_S = 30.0
ATTEMPTS = 50
ATTEMPT_S = 0.02


class Runner:
    """One job's tasks as child processes; all of its state is in `state.json`, written whole at each change."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.job = json.loads((folder / "job.json").read_text())
        self.states: list[State] = read_states(folder)
        self.running: dict[int, subprocess.Popen] = {}
        # Tasks that were told to end, when they are killed, and the state that they end in.
        self.ending: dict[int, tuple[float, State]] = {}

    def run(self) -> None:
        """Returns when every task has ended."""
        # A runner that was killed has left tasks "running": they start again, at their checkpoints.
        self._set({task: "pending" for task, state in enumerate(self.states) if state == "running"})
        while True:
            self._take_orders()
            self._reap()
            if all(state in FINAL for state in self.states):
                return
            self._start()
            time.sleep(POLL_S)

    def _set(self, changes: dict[int, State]) -> None:
        if changes:
            for task, state in changes.items():
                self.states[task] = state
            write_json(self.folder / "state.json", self.states)

    def _take_orders(self) -> None:
        given = [path for path in (self.folder / "orders").iterdir() if not path.name.startswith(".")]
        for path in sorted(given, key=lambda path: path.stat().st_mtime_ns):
            order, one = json.loads(path.read_text())
            for task in range(len(self.states)) if one is None else [one]:
                self._end(task, END[order])
            path.unlink()

    def _end(self, task: int, state: State) -> None:
        if task in self.running:
            self.ending[task] = (time.monotonic() + GRACE_S, state)
            self._signal(task, signal.SIGTERM)
        elif state == "pending" or self.states[task] not in FINAL:
            self._set({task: state})

    def _signal(self, task: int, number: int) -> None:
        # The whole group, as a script's children do not all listen to it; it is not reaped yet, so the number is its.
        os.killpg(self.running[task].pid, number)

    def _reap(self) -> None:
        for task, process in list(self.running.items()):
            deadline, state = self.ending.get(task, (float("inf"), None))
            if process.poll() is None:
                if time.monotonic() > deadline:
                    self._signal(task, signal.SIGKILL)
                continue
            del self.running[task]
            self.ending.pop(task, None)
            if state is None:
                state = {0: "completed", EXIT_STOPPED: "pending"}.get(process.returncode, "failed")
            self._set({task: state})

    def _start(self) -> None:
        waiting = [task for task, state in enumerate(self.states) if state == "pending"]
        free = self.job["throttle"] - len(self.running)
        if not waiting or free < 1:
            return
        parents = {Local(Path(self.job["folder"]), self.folder.parent).state(job) for job in self.job["after"]}
        if parents & {"failed", "cancelled", "unknown"}:
            self._set(dict.fromkeys(waiting, "cancelled"))
        elif parents <= {"completed"}:
            for task in waiting[:free]:
                self._launch(task)

    def _launch(self, task: int) -> None:
        folder = Path(self.job["folder"])
        suffix = self.folder.name if self.job["array"] is None else f"{self.folder.name}_{task}"
        environment = self.job["environment"] | {
            "MLMD_JOB_ID": self.folder.name,
            "MLMD_TASK": str(task),
            "MLMD_TASKS": str(len(self.states)),
        }
        with (folder / "logs" / f"{self.job['name']}-{suffix}.out").open("a") as log:
            self.running[task] = subprocess.Popen(
                ["bash", str(self.folder / "script")],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._set({task: "running"})


def main() -> int:
    """Holds the job's lock before it lets go of the caller, so that the job is never seen without a runner."""
    folder = Path(sys.argv[1]).absolute()
    with ExitStack() as stack:
        # Those who look hold the lock for a moment; whoever holds it for longer runs the job already.
        for _ in range(ATTEMPTS):
            if stack.enter_context(lock(folder, fcntl.LOCK_EX)):
                break
            time.sleep(ATTEMPT_S)
        else:
            return 0
        if os.fork():
            # Ends without unlocking: the lock belongs to both and lives on in the other.
            os._exit(0)
        os.setsid()
        log = os.open(folder / "runner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        Runner(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
