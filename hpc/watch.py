"""Who keeps the others waiting? A thread on each rank that answers where its rank is, and ends a job that cannot go on.

Every collective stands inside a guard, and all ranks enter the same guards in the same order: how many a rank has
entered says where it is. A rank that waits longer than the time-out asks all others. Those that answer tell how far
they are; one that is stopped or lies in code that holds the interpreter does not answer, and is named for that. A rank
that ends with an error says so before it goes, so that nobody waits for it at all. Nothing is sent while all goes well.

Messages are small JSON texts between pairs of ranks, which all collectives leave alone. They need an MPI that may be
used by several threads at once, as Horovod does.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from hpc.errors import CollectiveFailed, CollectiveTimeout, RankLeft, RanksLost, UserError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

TAG = 2604
TICK_SECONDS = 0.25
# How long one that is asked may take: its thread looks every TICK_SECONDS, on a machine that may be busy.
ANSWER_SECONDS = 5.0
# The same where mpirun ends a job: Open MPI sends CONT once a rank has died, TERM 0.25 s later, KILL after 0.25 s more.
LAST_ANSWER_SECONDS = 0.35
# The ranks that speak for all, each one a little later than the one before: a thousand would say a thousand lines.
SPEAKERS, TURN_SECONDS = 8, 0.5
# How long a failed collective waits for the word of a rank that has ended: about the time in which that one sends it.
SETTLE_SECONDS = 3.0
HOST_BYTES = 64
# What Horovod and mpi4py say where the other side is gone.
BROKEN = ("Horovod has been shut down", "MPI_ERR", "ncclRemoteError")


class Place(NamedTuple):
    """Where a rank is: guards it has entered, the last one's name, since when, and whether it is still inside."""

    number: int
    what: str
    since: float
    waiting: bool


class Watch:
    """The guards of this rank and the thread that watches them; one for a process.

    reason: what this rank ends with, told to the others at exit
    """

    def __init__(self, comm: "Comm"):
        self._timeout = float("inf")
        self.reason: BaseException | None = None
        self._comm = comm
        self._place = Place(0, "the start", time.monotonic(), False)
        self._agreed, self._completed = "the start", 0
        self._hosts: list[str] = []
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._left: dict[int, Mapping[str, Any]] = {}
        self._sent: list[tuple[int, Any]] = []
        self._dead: set[int] = set()
        self._asking, self._round, self._others_turn = False, 0, 0.0
        self._closing = self._ended = False
        self._awake, self._alarm = os.pipe()
        os.set_blocking(self._alarm, False)
        if threading.current_thread() is threading.main_thread():
            # Python's own handlers wait for the main thread, which lies in a collective.
            signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
            signal.signal(signal.SIGCONT, lambda number, frame: None)
        self._thread = threading.Thread(target=self._run, daemon=True, name="mlmd-watch-ranks")
        self._thread.start()

    def begin(self, timeout: float) -> None:
        """All ranks meet, and know each other's hosts. `timeout` is in seconds, for every guard from here on."""
        self._timeout, self.reason = timeout, None
        own = np.frombuffer(socket.gethostname().encode()[:HOST_BYTES].ljust(HOST_BYTES, b"\0"), np.uint8)
        everyone = np.empty((self._comm.size, HOST_BYTES), np.uint8)
        with self.guard("the start"):
            self._comm.Allgather(own, everyone)
        self._hosts = [row.tobytes().rstrip(b"\0").decode() for row in everyone]

    @contextmanager
    def guard(self, what: str, named: bool = True) -> Iterator[None]:
        """Around one collective. Inside of another guard the outer one's name stands, and the wait counts anew.

        named: whether later messages may say that all ranks have come to this one. Raises `CollectiveFailed` where the
        way to the others is broken.
        """
        outer = self._place
        self._place = Place(outer.number + 1, outer.what if outer.waiting else what, time.monotonic(), True)
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            self._settle(error)
            raise
        else:
            self._completed = self._place.number
            if named:
                self._agreed = self._place.what
        finally:
            self._place = Place(self._place.number, self._place.what, time.monotonic(), outer.waiting)

    @property
    def agreed(self) -> str:
        """The last named guard that this rank is through with, and so the last that all have come to."""
        return self._agreed

    def close(self) -> None:
        """Stops the thread; tells the others where this rank ends with an error. To be called before MPI ends."""
        self._closing = True
        with suppress(BlockingIOError):
            os.write(self._alarm, b"\0")
        self._thread.join(ANSWER_SECONDS)
        if self.reason is None:
            return
        code = getattr(self.reason, "exit_code", getattr(self.reason, "code", None))
        told = " ".join((str if isinstance(self.reason, UserError) else repr)(self.reason).split())
        code = code if isinstance(code, int) and code else 1
        self._tell({"left": self._completed, "after": self._agreed, "code": code, "told": told[:500]})
        # One of those that wait ends the job, with this rank's status; they must not lose the connection before.
        speakers = set(self._speakers())
        deadline = time.monotonic() + SETTLE_SECONDS
        while not speakers <= self._left.keys() and time.monotonic() < deadline:
            time.sleep(0.02)
            self._listen()

    def _settle(self, error: Exception) -> None:
        """Where a rank has ended, the thread ends this one too, with that one's words, before this returns."""
        time.sleep(SETTLE_SECONDS)
        if any(sign in str(error) for sign in BROKEN):
            raise CollectiveFailed(self._place.what, self._agreed, str(error)) from error

    def _run(self) -> None:
        before, last, waited = self._place, time.monotonic(), 0.0
        while not self._closing:
            signals = self._signals(TICK_SECONDS)
            self._listen()
            place, now = self._place, time.monotonic()
            # Counted by turns of this loop: a job that was suspended for an hour has not waited for an hour.
            waited = waited + min(now - last, 4 * TICK_SECONDS) if place == before else 0.0
            before, last = place, now
            if not place.waiting or self._ended:
                continue
            turn = TURN_SECONDS * min(self._comm.rank, SPEAKERS)
            if any(left["left"] < place.number for left in self._left.values()):
                self._end_with_left(place, turn)
            elif signal.SIGCONT in signals and self._comm.rank < SPEAKERS:
                self._ask_for_the_lost(place)
            elif waited > self._timeout + turn and now > self._others_turn:
                self._end_with_missing(place)

    def _signals(self, seconds: float) -> bytes:
        """The numbers of the signals that have come, as soon as one comes."""
        woken, _, _ = select.select([self._awake], [], [], seconds)
        return os.read(self._awake, 1024) if woken else b""

    def _end_with_left(self, place: Place, turn: float) -> None:
        """One that has ended before this collective will not come to it: there is nothing to wait for."""
        time.sleep(TICK_SECONDS + turn)
        self._listen()
        if self._place != place or self._ended:
            return
        rank, left = min(self._left.items())
        self._end(RankLeft(self._name(rank), left["after"], left["told"], left["code"]))

    def _end_with_missing(self, place: Place) -> None:
        missing = self._missing(place, min(ANSWER_SECONDS, self._timeout))
        if missing is None:
            return
        told = list(missing.values()) or self._told_of_all(place)
        self._end(CollectiveTimeout(place.what, self._timeout, told))

    def _ask_for_the_lost(self, place: Place) -> None:
        """A rank may have died: which one is said before the launcher kills the others, if it does."""
        # On a thread of its own, as this one may not come back from an MPI that breaks over the dead rank.
        word = threading.Timer(LAST_ANSWER_SECONDS, self._tell_lost, [place])
        word.start()
        self._missing(place, LAST_ANSWER_SECONDS)
        word.join()

    def _tell_lost(self, place: Place) -> None:
        silent = [rank for rank in range(self._comm.size) if rank not in (self._comm.rank, *self._answers)]
        others_turn = self._ended or time.monotonic() < self._others_turn
        if not silent or others_turn or self._place != place or signal.SIGTERM not in self._signals(0.0):
            return
        # Where nobody can be heard, who is silent says nothing.
        lost = sorted(self._dead) or (silent if self._answers or len(silent) == 1 else [])
        if lost or self._comm.rank < 2:
            told = [self._told(rank, place) for rank in lost]
            print(f"mlmd: {RanksLost(place.what, told)}", file=sys.stderr, flush=True)

    def _missing(self, place: Place, patience: float) -> dict[int, str] | None:
        """Asks all others; rank → a sentence on each that has not come.

        None where the wait is over, or a lower rank asks.
        """
        self._answers, self._asking, self._round = {}, True, self._round + 1
        others = [rank for rank in range(self._comm.size) if rank != self._comm.rank]
        for rank in others:
            self._send(rank, {"ask": self._round})
        deadline = time.monotonic() + patience
        while len(self._answers) < len(others) and time.monotonic() < deadline:
            time.sleep(0.02)
            self._listen()
            if self._place != place or self._ended or not self._asking:
                return None
        self._asking = False
        return {rank: told for rank in others if (told := self._told(rank, place))}

    def _told(self, rank: int, place: Place) -> str:
        if rank in self._dead:
            return f"{self._name(rank)} has died: it took part in {self._agreed}"
        if rank not in self._answers:
            return f"{self._name(rank)} does not answer: it took part in {self._agreed} and is not heard of since"
        there = self._answers[rank]
        if there["number"] >= place.number:
            return ""
        since = f"{there['seconds']:.0f} s"
        if there["waiting"]:
            return f"{self._name(rank)} has been in {there['what']} for {since} and is at {there['doing']}"
        return (
            f"{self._name(rank)} has not come to {place.what}: it left {there['what']} {since} ago "
            f"and is at {there['doing']}"
        )

    def _told_of_all(self, place: Place) -> list[str]:
        """Where all have come and none gets through: those that are at another line than this rank."""
        own = _doing()
        elsewhere = {rank: there["doing"] for rank, there in self._answers.items() if there["doing"] != own}
        if elsewhere:
            return [f"{self._name(rank)} has come to {place.what} and is at {line}" for rank, line in elsewhere.items()]
        late = min(self._answers, key=lambda rank: self._answers[rank]["seconds"])
        ago = self._answers[late]["seconds"]
        return [f"all ranks are at {place.what} and none gets through; {self._name(late)} came last, {ago:.0f} s ago"]

    def _name(self, rank: int) -> str:
        host = f" (host {self._hosts[rank]})" if self._hosts else ""
        return f"rank {rank} of {self._comm.size}{host}"

    def _listen(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        # A connection that has broken says so here as well; those on it do not answer.
        with suppress(MPI.Exception):
            while self._comm.Iprobe(MPI.ANY_SOURCE, TAG, status):
                buffer = bytearray(status.Get_count(MPI.BYTE))
                self._comm.Recv([buffer, MPI.BYTE], source=status.Get_source(), tag=TAG)
                self._take(status.Get_source(), json.loads(buffer))
        self._unsent()

    def _take(self, source: int, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            if not self._asking or source < self._comm.rank:
                self._asking, self._others_turn = False, time.monotonic() + 2 * ANSWER_SECONDS
            here = self._place
            seconds = time.monotonic() - here.since
            self._send(source, {**here._asdict(), "seconds": seconds, "doing": _doing(), "round": message["ask"]})
        elif "ends" in message:
            # Whatever happens from here on is the work of that one, which has said why.
            self._ended = True
        elif "left" in message:
            self._left[source] = message
        elif message["round"] == self._round:
            self._answers[source] = message

    def _send(self, rank: int, message: Mapping[str, Any]) -> None:
        from mpi4py import MPI

        try:
            request = self._comm.Isend([json.dumps(message).encode(), MPI.BYTE], dest=rank, tag=TAG)
        except MPI.Exception:
            self._dead.add(rank)
        else:
            self._sent.append((rank, request))

    def _tell(self, message: Mapping[str, Any]) -> None:
        """To the ranks that speak for all; they need not hear it, so there is an end to the wait."""
        for rank in self._speakers():
            self._send(rank, message)
        deadline = time.monotonic() + 1.0
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _speakers(self) -> list[int]:
        """The lowest of the other ranks."""
        return [rank for rank in range(min(self._comm.size, SPEAKERS + 1)) if rank != self._comm.rank][:SPEAKERS]

    def _unsent(self) -> bool:
        from mpi4py import MPI

        sent, self._sent = self._sent, []
        for rank, request in sent:
            try:
                if not request.Test():
                    self._sent.append((rank, request))
            except MPI.Exception:
                self._dead.add(rank)
        return bool(self._sent)

    def _end(self, error: UserError) -> NoReturn:
        self._tell({"ends": True})
        print(f"mlmd: {error}", file=sys.stderr, flush=True)
        # Only an abort reaches the ranks that no longer answer.
        self._comm.Abort(error.exit_code)


def _doing() -> str:
    """The innermost line of this program that the main thread is in."""
    frame = sys._current_frames().get(threading.main_thread().ident)  # noqa: SLF001  the interpreter's own way
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in ("hpc", "mlmd", "__main__"):
            return f"line {frame.f_lineno} of {module}"
        frame = frame.f_back
    return "its end"
