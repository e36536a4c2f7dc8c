"""threadpoolctl sees this package and limits its threads, as it does those of BLAS and OpenMP.

It is told when a model is made after `threadpoolctl` was imported; importing this module tells it at any other time.
A limit holds for all calls of the process that begin under it, and changes no result.
"""

from __future__ import annotations

import threadpoolctl

from . import __version__

__all__ = ["ForwardpassController"]


class ForwardpassController(threadpoolctl.LibController):  # type: ignore[misc]
    """Reaches the native module's team of threads through the functions that it exports."""

    user_api = "forwardpass"
    internal_api = "forwardpass"
    filename_prefixes = ("_native",)
    check_symbols = ("forwardpass_get_num_threads", "forwardpass_set_num_threads")

    def get_num_threads(self) -> int:
        return int(self.dynlib.forwardpass_get_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        self.dynlib.forwardpass_set_num_threads(num_threads)

    def get_version(self) -> str:
        return __version__


threadpoolctl.register(ForwardpassController)
