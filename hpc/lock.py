"""One owner at a time of a piece of output: a file beside it that its owner keeps alive.

Two jobs started on the same output by mistake would do everything twice. The second is refused while the first lives;
an owner that was killed does not hold its lock for ever:

    on the same machine   its process is gone, which is seen at once
    on another one        the owner touches its lock every few seconds; a lock that stays untouched is a dead owner's

A lock appears by a hard link to a complete file, which is atomic on network file systems too, and times are only ever
compared with each other as the file server gives them, so that clocks need not agree. An attempt whose node was lost
may live on unheard: the same job, started again, waits for it to end. An owner that was stopped for longer than others
wait, and has lost its lock, is asked to stop as by the scheduler's signal.
"""

import contextlib
import functools
import json
import logging
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpc import atomic
from hpc.errors import InUse

BEAT_SECONDS = 5.0
# So long must a lock on another machine lie untouched; attributes of files may be a minute old on NFS.
SILENCE_SECONDS = 75.0
POLL_SECONDS = 0.5
log = logging.getLogger(__name__)
# Path → this process's token in it; one thread keeps them all alive.
_held: dict[Path, str] = {}


@contextmanager
def held(folder: Path, task: int = 0, tasks: int = 1) -> Iterator[None]:
    """Owns share `task` of `tasks` of what is made in `folder` while the block lasts.

    Raises `InUse` where a living process owns this share or one that has items in common with it. Within a process a
    lock may be taken again by who has it.
    """
    folder = folder.absolute()
    path = folder / f"lock-{task}-of-{tasks}"
    if path in _held:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    _take(path)
    try:
        for other in sorted(path.parent.glob("lock-*-of-*")):
            # Shares k of n and k' of n' have an item in common when k and k' agree modulo the divisor of n and n'.
            their_task, their_tasks = (int(word) for word in other.name.split("-")[1::2])
            if other != path and (task - their_task) % math.gcd(tasks, their_tasks) == 0:
                _clear(other)
        yield
    finally:
        _release(path)


def _take(path: Path) -> None:
    token = uuid.uuid4().hex
    atomic.sweep(path.parent)
    draft = path.with_name(f".{path.name}.{atomic.unique_name()}{atomic.TEMPORARY_SUFFIX}")
    try:
        draft.write_text(json.dumps({"token": token, **_myself()}))
        while True:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
                break
            _clear(path)
    finally:
        draft.unlink(missing_ok=True)
    _held[path] = token
    _heart()


def _release(path: Path) -> None:
    token = _held.pop(path, None)
    if token is not None and _owner(path).get("token") == token:
        path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Removes a dead owner's lock. Raises `InUse` for a living one's."""
    owner = _wait_for(path)
    aside = path.with_name(f".{path.name}.{atomic.unique_name()}{atomic.TEMPORARY_SUFFIX}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    # Another one may have cleared it and taken it since: what was moved is then theirs, and goes back.
    if _owner(aside) != owner:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _wait_for(path: Path) -> dict:
    """Returns who owned the lock once it is dead or gone. Raises `InUse` when it shows life."""
    owner, touched, since, told = _owner(path), _touched(path), time.monotonic(), False
    while touched is not None and owner:
        alive = _is_alive(owner)
        if alive is False or (alive is None and time.monotonic() - since > SILENCE_SECONDS):
            break
        now = _touched(path)
        shows_life = alive or (now is not None and now != touched)
        if shows_life and not _is_my_last_attempt(owner):
            raise InUse(path, owner)
        if now != touched:
            touched, since = now, time.monotonic()
        if not told:
            log.info("%s: waiting for %s to end or to fall silent", path, _name_of(owner))
            told = True
        time.sleep(POLL_SECONDS)
    if told:
        log.info("%s is free", path)
    return owner


def _myself() -> dict:
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("MLMD_JOB_ID") or ""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "job": job,
        "start": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _machine() -> str:
    """Where a process number means the same process: this boot of this kernel, this namespace of process numbers."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> str | None:
    """When a process was started, so that a later one of the same number is another; None for none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # Its state is Z when it has ended and nobody has taken notice yet.
    return None if words[0] in {b"Z", b"X"} else words[19].decode()


def _is_alive(owner: dict) -> bool | None:
    """None where it runs on another machine."""
    if owner["machine"] != _machine():
        return None
    return _started(owner["pid"]) == owner["started"]


def _is_my_last_attempt(owner: dict) -> bool:
    me = _myself()
    return bool(me["job"]) and owner["job"] == me["job"] and owner["start"] != me["start"]


def _name_of(owner: dict) -> str:
    job = f", job {owner['job']}" if owner["job"] else ""
    return f"process {owner['pid']} on {owner['host']}{job}"


def _owner(path: Path) -> dict:
    """What a lock says; empty for none, and for one that is not a lock."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    known = {"token", *_myself()}
    return owner if isinstance(owner, dict) and known <= owner.keys() else {}


def _touched(path: Path) -> int | None:
    """When, by the file server's clock; None for no lock."""
    try:
        # Opened: attributes of closed files are cached by network file systems.
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@functools.cache
def _heart() -> None:
    threading.Thread(target=_beat, daemon=True, name="mlmd-locks").start()


def _beat() -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        for path, token in list(_held.items()):
            owner = _owner(path)
            if owner.get("token") == token:
                with contextlib.suppress(OSError):
                    os.utime(path)
            elif path in _held:
                del _held[path]
                log.error("%s has been taken by %s: this process was silent for too long and stops", path, owner)
                os.kill(os.getpid(), signal.SIGTERM)
