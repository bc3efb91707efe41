"""A real Slurm of several nodes on this machine, for tests: munged, slurmctld and one slurmd a node, no systemd.

Debian's and Ubuntu's slurmd can run several times on one host (MULTIPLE_SLURMD); where it cannot, there is one node.
Everything lies in one private folder and is stopped by `stop`, whatever has happened in between. No root needed.

    python tests/slurm/cluster.py        starts one, opens a shell in which sbatch works, stops it on exit
"""

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
# Debian puts the daemons where an unprivileged PATH does not look.
SEARCH_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job stays pending until its credential has expired: 5 s instead of 2 minutes.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
# Nodes that share one folder for temporary files also share PMIx's, and ranks on two nodes then fail to start.
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# A node may claim more memory than the machine has, and comes back by itself after it was down.
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SlurmdTimeout=10
SlurmctldTimeout=30
KillWait=5
MinJobAge=3600
BatchStartTimeout=10
MessageTimeout=10
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=200000
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=00:30:00 MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Names of the programs that a cluster needs and this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


class Cluster:
    """Slurm with `nodes` nodes named n1, n2, ... that claim `cpus` CPUs each, in a new private folder `folder`.

    `environment` is what a client needs besides its own: SLURM_CONF, and for tests on one host an Open MPI that
    does not use shared memory between nodes, since all of them see the same /dev/shm.
    """

    def __init__(self, nodes: int = 2, cpus: int = 4):
        # Short, as a socket's path may have 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="mlmd-slurm-"))
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "OMPI_MCA_btl": "self,tcp"}

    def start(self) -> None:
        """Starts everything and returns when all nodes are idle; raises RuntimeError with the logs' ends if not."""
        for name in ("munge", "state", "log"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        # munge wants its socket's folder open to everyone and its key closed.
        (self.folder / "munge").chmod(0o711)
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir(parents=True)
            (self.folder / "tmp" / node).mkdir(parents=True)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        (self.folder / "slurm.conf").write_text(self._configuration())
        munge = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        places = [f"--{name}={self.folder}/munge/{name.removesuffix('-file')}" for name in munge]
        self._run(["munged", "--num-threads=2", *places])
        self._run(["slurmctld"])
        for node in self.nodes:
            self.start_node(node)
        self.wait_for_nodes(self.nodes, "idle")

    def start_node(self, node: str) -> None:
        """Starts the node's slurmd; after `kill_node` the node registers again and comes back."""
        self._run(["slurmd", "-N", node])

    def kill_node(self, node: str) -> None:
        """The node is lost: its slurmd and everything that runs there is killed at once, and Slurm is told.

        Slurm would find out by itself after SlurmdTimeout; setting the node down is the same, sooner.
        """
        daemon = self._pid(self.folder / f"slurmd-{node}.pid")
        if daemon:
            _kill(daemon, signal.SIGKILL)
        for pid in self._processes_of_jobs(node):
            _kill(pid, signal.SIGKILL)
        self.client("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def client(self, *command: str) -> str:
        """Standard output of a Slurm command run against this cluster; RuntimeError where it fails."""
        return self._run(list(command))

    def wait_for_nodes(self, nodes: list[str], state: str) -> None:
        """Waits until each of `nodes` is in `state` (as sinfo's %t says it)."""
        deadline = time.monotonic() + 60
        seen = ""
        while time.monotonic() < deadline:
            try:
                seen = self.client("sinfo", "--noheader", "--Node", "--format=%N %t")
            except RuntimeError as error:
                seen = str(error)
            if {f"{node} {state}" for node in nodes} <= set(seen.splitlines()):
                return
            time.sleep(0.1)
        raise RuntimeError(f"nodes {nodes} are not {state}: {seen}\n{self.logs()}")

    def logs(self) -> str:
        """The ends of all daemons' logs."""
        paths = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in paths)

    def stop(self) -> None:
        """Cancels all jobs, stops every daemon, waits for its end and removes the folder."""
        # What does not answer any more is stopped all the same.
        with contextlib.suppress(RuntimeError):
            self.client("scancel", "--full", f"--user={getpass.getuser()}")
            self._wait_until_empty()
        for name in (*(f"slurmd-{node}.pid" for node in self.nodes), "slurmctld.pid", "munge/pid"):
            self._stop_daemon(self.folder / name)
        for pid in self._processes_of_jobs():
            _kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes_of_jobs(self, node: str | None = None) -> list[int]:
        """What runs for this cluster's jobs, on `node` or anywhere; a step's guard goes before its processes."""
        processes = []
        for pid in _processes():
            seen = _environment(pid)
            ours = seen.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            if ours and "SLURMD_NODENAME" in seen and node in (None, seen["SLURMD_NODENAME"]):
                processes.append(pid)
        guards = [parent for parent in map(_parent, processes) if _title(parent).startswith("slurmstepd")]
        return guards + processes

    def _wait_until_empty(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.client("squeue", "--noheader").strip():
            time.sleep(0.1)

    def _configuration(self) -> str:
        host = socket.gethostname().split(".")[0]
        port = _free_ports(1 + len(self.nodes))
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs={self.cpus} Boards=1 "
            f"SocketsPerBoard=1 CoresPerSocket={self.cpus} ThreadsPerCore=1 RealMemory=64000 State=UNKNOWN"
            for number, node in enumerate(self.nodes, start=1)
        ]
        return CONFIGURATION.format(
            host=host, port=port, user=getpass.getuser(), folder=self.folder, nodes="\n".join(lines)
        )

    def _run(self, command: list[str]) -> str:
        environment = {**os.environ, **self.environment, "PATH": SEARCH_PATH}
        # A daemon keeps what it is given, so its output goes to a file: a pipe would never be closed.
        with tempfile.TemporaryFile("w+") as output:
            status = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode
            output.seek(0)
            text = output.read()
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {status}: {text}\n{self.logs()}")
        return text

    def _stop_daemon(self, pid_file: Path) -> None:
        pid = self._pid(pid_file)
        if pid is None:
            return
        _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while _title(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        _kill(pid, signal.SIGKILL)

    def _pid(self, path: Path) -> int | None:
        """The process a pid file names, if it is still that daemon."""
        if not path.exists() or not path.read_text().strip():
            return None
        pid = int(path.read_text())
        return pid if "slurm" in _title(pid) or "munged" in _title(pid) else None


def _free_ports(count: int) -> int:
    """The first of `count` consecutive ports that nobody listens on."""
    for _ in range(200):
        first = random.randrange(20000, 30000)
        if all(_is_free(first + offset) for offset in range(count)):
            return first
    raise RuntimeError("no free ports found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    # The name, in brackets, may hold blanks; the parent is the second word after it.
    words = _read(pid, "stat").rpartition(b")")[2].split()
    return int(words[1]) if words else 0


def _title(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _environment(pid: int) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in _read(pid, "environ").split(b"\0") if entry)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    missing = missing_programs()
    if missing:
        print(f"needed and not here: {', '.join(missing)} (Debian, Ubuntu: apt-get install slurm-wlm munge)")
        return 2
    cluster = Cluster()
    try:
        cluster.start()
        print("a Slurm of two nodes; it ends with this shell")
        shell = os.environ.get("SHELL", "/bin/bash")
        return subprocess.run([shell], env={**os.environ, **cluster.environment}, check=False).returncode
    finally:
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
