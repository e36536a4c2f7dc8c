"""Where operators live that few models use: their modules are imported when a graph first names one."""

from __future__ import annotations

from functools import cache
from importlib import import_module

__all__ = ["CATALOG", "load", "load_all"]

CATALOG: tuple[tuple[str, str, str], ...] = ()
"""Module of this package, domain, names of its operators."""


@cache
def _homes() -> dict[tuple[str, str], str]:
    return {(domain, name): module for module, domain, names in CATALOG for name in names.split()}


def load(domain: str, name: str) -> bool:
    """Import the module of an operator. Returns whether there is one."""
    module = _homes().get((domain, name))
    if module is None:
        return False
    import_module(f".{module}", __package__)
    return True


def load_all() -> None:
    """Import every module, so that the registry is complete."""
    for module, _, _ in CATALOG:
        import_module(f".{module}", __package__)
