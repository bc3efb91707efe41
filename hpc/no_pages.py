"""`--preload hpc.no_pages` closes the web server that every Dask process opens: it would answer anybody."""

from dask.distributed import Scheduler, Worker


async def dask_setup(server: Scheduler | Worker) -> None:
    """Called by Dask in a scheduler or worker that starts."""
    server.http_server.stop()
