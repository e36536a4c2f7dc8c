"""A dictionary that makes its values and forgets those that were not used for longest."""

from __future__ import annotations

from _thread import allocate_lock  # threading's own, without the time that it takes to import
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Cache"]

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """The values of the keys used last. Any number of threads may share one.

    Parameters
    ----------
    make
        Key -> value. Runs while the cache is locked, so that a value is made once. Nothing is kept when it raises.
    most
        How many values are kept.
    """

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make, self._most = make, most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = allocate_lock()

    def __call__(self, key: K) -> V:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            else:
                self._values[key] = self._make(key)
                if len(self._values) > self._most:
                    self._values.popitem(last=False)
            return self._values[key]

    def __len__(self) -> int:
        return len(self._values)
