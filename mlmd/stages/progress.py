"""Progress that suits its reader: a bar on a terminal, a plain line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
LOG_EVERY_SECONDS = 10.0
log = logging.getLogger(__name__)


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes `items` through and shows how many of `total` have gone by."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit="item")
        return
    shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - shown > LOG_EVERY_SECONDS:
            log.info("%s: %d of %d items", what, done, total)
            shown = now
