from collections.abc import Callable, Sequence
from typing import Any

from ._native import Program
from .graph import Array

class Bound:
    owner: Program
    def __init__(
        self,
        owner: Program,
        inputs: Sequence[tuple[Any, tuple[int, ...]]],
        outputs: Sequence[tuple[Any, tuple[int, ...]]],
        release_gil: bool,
        fault: Callable[[int], Exception],
    ) -> None: ...
    def run(self, inputs: list[Array], outputs: list[Array]) -> None: ...

class Caller:
    def _set_names(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None: ...
    def _set_last(self, bound: Bound | None) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def run_into(self, inputs: Any, outputs: Any) -> None: ...
