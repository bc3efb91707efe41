"""The job script of a Dask worker: every word of it is quoted, and no other user can read or change what it needs.

Dask joins the words of the worker's command with blanks, and hands script and keys to sbatch in folders that others can
write to, or whose names the shell would read.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dask.distributed import Security
from dask_jobqueue.slurm import SLURMJob

# Where an option of the site's own says it already, in any of sbatch's spellings.
OUTPUTS = {"output": r"(^|\s)(-o|--ou)", "error": r"(^|\s)(-e|--er)"}


class QuotedJob(SLURMJob):
    """A worker's job. `private`: a folder that only this user can look into, on all nodes."""

    def __init__(
        self,
        *args: Any,
        private: Path,
        python: str,
        local_directory: str,
        log_directory: str,
        security: Security,
        interface: str | None = None,
        worker_extra_args: Sequence[str] = (),
        job_extra_directives: Sequence[str] = (),
        **options: Any,
    ):
        self._private = private
        files = security.get_tls_config_for_role("worker")
        tls = [word for what in ("ca_file", "cert", "key") for word in (f"--tls-{what.replace('_', '-')}", files[what])]
        super().__init__(
            *args,
            # Without -P what lies in the working folder would be imported in the place of Dask.
            python=f"{shlex.quote(python)} -P",
            local_directory=shlex.quote(local_directory),
            log_directory=log_directory,
            interface=interface and shlex.quote(interface),
            worker_extra_args=[shlex.quote(word) for word in (*worker_extra_args, *tls)],
            job_extra_directives=job_extra_directives,
            # Below, on the command line: sbatch reads quotes in a script in a way of its own.
            job_directives_skip=["SBATCH -e", "SBATCH -o"],
            **options,
        )
        said = [what for what, form in OUTPUTS.items() if any(re.search(form, line) for line in job_extra_directives)]
        place = log_directory.replace("%", "%%")
        endings = {"output": "out", "error": "err"}
        self._outputs = [
            f"--{what}={place}/{self.job_name}-%J.{end}" for what, end in endings.items() if what not in said
        ]

    @contextmanager
    def job_file(self) -> Iterator[str]:
        """The script, as long as sbatch reads it."""
        path = self._private / f"{self.name}.sh"
        write_private(path, self.job_script())
        try:
            yield str(path)
        finally:
            path.unlink()

    async def _submit_job(self, script_filename: str) -> str:
        return await self._call([self.submit_command, *self._outputs, script_filename])


def write_private(path: Path, text: str) -> None:
    """A new file that no other user reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def in_files(security: Security, folder: Path) -> Security:
    """The same with certificate and key in files of `folder`, for programs that are told where they are."""
    write_private(folder / "certificate.pem", security.tls_ca_file)
    write_private(folder / "key.pem", security.tls_worker_key)
    places = {"cert": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
    of_roles = {f"tls_{role}_{what}": places[what] for role in ("client", "scheduler", "worker") for what in places}
    return Security(require_encryption=True, tls_ca_file=places["cert"], **of_roles)
