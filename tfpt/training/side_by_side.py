"""A function of many items, several at a time, in their order."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def side_by_side(
    function: Callable[[Item], Made], items: Iterable[Item], *, at_a_time: int
) -> Iterator[tuple[Item, Made]]:
    """Yields each item and what the function makes of it; no more items are taken than can be worked on.

    Args:
        function: of an item; runs on several threads.
        items: are taken on the caller's thread.
        at_a_time: threads; 1: the caller's own.

    Raises:
        Exception: what the function raises, once those before are yielded; what the items raise, at once.
    """
    if at_a_time == 1:
        for item in items:
            yield item, function(item)
        return
    waiting: collections.deque[tuple[Item, Future[Made]]] = collections.deque()
    with ThreadPoolExecutor(at_a_time) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > at_a_time:
                first, made = waiting.popleft()
                yield first, made.result()
        for item, made in waiting:
            yield item, made.result()
