"""Somebody else on the same machine: what a run listens on, what of it others can see, and ways to try to get in."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

import psutil
from dask.distributed import Client, Security

PATIENCE_SECONDS = 4.0
# What Dask's pages, its programming interface and its metrics are called.
PAGES = ("/", "/status", "/health", "/info/main/workers.html", "/json/counts.json", "/metrics", "/sitemap.json")
PAGES += ("/api/v1/check_idle", "/eventstream", "/individual-plots.json", "/statics/css/status.css", "/../../etc/passwd")
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


def readable_keys(folders: Iterable[Path]) -> list[Path]:
    """Files below these folders that hold a private key and that another user could read."""
    found = []
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        with contextlib.suppress(OSError):
            if b"PRIVATE KEY" in file.read_bytes() and is_open(file):
                found.append(file)
    return found


def is_open(file: Path) -> bool:
    """Whether others may read a file, and look into all folders on the way to it."""
    return bool(file.stat().st_mode & 0o044) and all(folder.stat().st_mode & 0o011 for folder in file.parents)


def let_in(where: Iterable[Port], folder: Path) -> list[str]:
    """What came of trying every way at every port, where it came to anything; `folder` for the stranger's own key."""
    own = Security.temporary()
    (folder / "own.pem").write_text(own.tls_client_cert + own.tls_client_key)
    return asyncio.run(_let_in(list(where), own, folder / "own.pem"))


async def _let_in(where: list[Port], own: Security, key: Path) -> list[str]:
    tries = []
    for host, port in where:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        tries += [asyncio.to_thread(_read, host, port, page) for page in PAGES]
        tries += [asyncio.to_thread(_speak_tls, host, port, certificate) for certificate in (None, key)]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        tries += [_run_code(f"tcp://{place}", None), _run_code(f"tls://{place}", own)]
    return [told for told in await asyncio.gather(*tries) if told]


def _read(host: str, port: int, page: str) -> str | None:
    """Without TLS, as to a web server; one that has nothing to tell says so."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection((host, port), PATIENCE_SECONDS) as connection:
        connection.sendall(f"GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        while more := connection.recv(1 << 16):
            answer += more
    nothing = not answer or answer.startswith((b"HTTP/1.1 404 ", ALERT))
    return None if nothing else f"{host}:{port} answers to {page}: {answer[:300]!r}"


def _speak_tls(host: str, port: int, certificate: Path | None) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    try:
        with (
            socket.create_connection((host, port), PATIENCE_SECONDS) as connection,
            context.wrap_socket(connection) as secured,
        ):
            # Of TLS 1.3 a client hears only now whether it was taken. Dask speaks as soon as it has taken one.
            answer = secured.recv(1 << 16)
    except OSError:
        return None
    return f"{host}:{port} speaks TLS with a stranger: {answer[:300]!r}" if answer else None


async def _run_code(address: str, security: Security | None) -> str | None:
    """By Dask's own client."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        async with Client(address, security=security, asynchronous=True, timeout=PATIENCE_SECONDS) as client:
            return f"{address} runs a stranger's code: {await client.run_on_scheduler(os.getpid)}"
    return None


def pieces_of_key(pem: str) -> list[str]:
    """What would give a private key away, wherever it stands: its lines, and those again as somebody may encode them."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    return [*lines, base64.b64encode(pem.encode()).decode()[64:128]]
