"""Somebody else on the same machine: what a run listens on, what of it others can see, and ways to try to get in."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
from dask.distributed import Client, Security

from tests.programs import CHECKOUT, PATIENCE_SECONDS

ANSWER_SECONDS = 1.0
# What Dask answers to anybody where its web server is open, whatever pages are chosen.
PAGES = ("/", "/status", "/sitemap.json")
# The type of a record of TLS that says why the other side hangs up.
ALERT = b"\x15"
Port = tuple[str, int]


def family(process_id: int) -> list[psutil.Process]:
    """A process and everything below it."""
    process = psutil.Process(process_id)
    return [process, *process.children(recursive=True)]


def ports(processes: Iterable[psutil.Process]) -> list[Port]:
    """Where these processes listen: (address, port)."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            listening = [known for known in process.net_connections("inet") if known.status == psutil.CONN_LISTEN]
            found |= {(known.laddr.ip, known.laddr.port) for known in listening}
    return sorted(found)


def seen_by_all(processes: Iterable[psutil.Process]) -> str:
    """Command lines, which any user may read, and environments, which go to every program that is started."""
    texts = []
    for process in processes:
        with contextlib.suppress(OSError):
            folder = Path("/proc") / str(process.pid)
            texts += [(folder / name).read_text(errors="replace") for name in ("cmdline", "environ")]
    return "\n".join(texts)


def readable_keys(folder: Path) -> list[Path]:
    """Files below a folder that hold a private key and that another user could read."""
    found = []
    # Files and folders come and go.
    for place, _, names in os.walk(folder):
        for file in (Path(place) / name for name in names):
            with contextlib.suppress(OSError):
                if file.is_file() and b"PRIVATE KEY" in file.read_bytes() and is_open(file, folder):
                    found.append(file)
    return found


def is_open(file: Path, top: Path) -> bool:
    """Whether others may read a file, and look into all folders on the way to it from `top`."""
    way = [folder for folder in file.parents if folder.is_relative_to(top) and folder != top]
    return bool(file.stat().st_mode & 0o044) and all(folder.stat().st_mode & 0o011 for folder in way)


def let_in(where: Iterable[Port], folder: Path) -> list[str]:
    """What came of trying every way at every port, by another process; `folder` for the stranger's own key."""
    words = [sys.executable, "-W", "ignore", "-m", "tests.strangers", json.dumps(list(where)), str(folder)]
    told = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    return json.loads(told.stdout)


def main() -> None:
    """The stranger."""
    where, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    own = Security.temporary()
    (folder / "own.pem").write_text(own.tls_client_cert + own.tls_client_key)
    print(json.dumps(asyncio.run(_let_in(where, own, folder / "own.pem"))))


async def _let_in(where: list[list], own: Security, key: Path) -> list[str]:
    tries = []
    for bound, port in where:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, bound)
        tries += [asyncio.to_thread(_read, host, port, page) for page in PAGES]
        tries += [asyncio.to_thread(_speak_tls, host, port, certificate) for certificate in (None, key)]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        tries += [_run_code(f"tcp://{place}", None), _run_code(f"tls://{place}", own)]
    return [told for told in await asyncio.gather(*tries) if told]


def _read(host: str, port: int, page: str) -> str | None:
    """Without TLS, as to a web server."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection((host, port), ANSWER_SECONDS) as connection:
        connection.sendall(f"GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        while more := connection.recv(1 << 16):
            answer += more
    return None if not answer or answer.startswith(ALERT) else f"{host}:{port} answers to {page}: {answer[:300]!r}"


def _speak_tls(host: str, port: int, certificate: Path | None) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    try:
        with (
            socket.create_connection((host, port), ANSWER_SECONDS) as connection,
            context.wrap_socket(connection) as secured,
        ):
            # Of TLS 1.3 a client hears only now whether it was taken. Dask speaks as soon as it has taken one.
            answer = secured.recv(1 << 16)
    except OSError:
        return None
    return f"{host}:{port} speaks TLS with a stranger: {answer[:300]!r}" if answer else None


async def _run_code(address: str, security: Security | None) -> str | None:
    """By Dask's own client."""
    answer: list[int] = []

    async def call() -> None:
        async with Client(address, security=security, asynchronous=True, timeout=ANSWER_SECONDS) as client:
            answer.append(await client.run_on_scheduler(os.getpid))

    try:
        await asyncio.wait_for(call(), 5 * ANSWER_SECONDS)
    except OSError:
        pass
    except (TypeError, ValueError, RuntimeError) as error:
        # A worker is no scheduler, and says so.
        return f"{address} answers: {error}"
    return f"{address} runs a stranger's code: {answer[0]}" if answer else None


if __name__ == "__main__":
    main()
