"""A function over a stream, by a pool, in order, holding a bounded number of results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    pool: Executor, make: Callable[[Item], Made], items: Iterable[Item], depth: int
) -> Iterator[Made]:
    """Like ``pool.map``, which takes the whole stream at once.

    Args:
        pool: Threads or processes.
        make: Called with each item.
        items: Read as results are taken.
        depth: Items that are read before the first result is taken.
    """
    source, pending = iter(items), deque[Future[Made]]()
    for item in islice(source, depth):
        pending.append(pool.submit(make, item))
    while pending:
        made = pending.popleft().result()
        for item in islice(source, 1):
            pending.append(pool.submit(make, item))
        yield made
