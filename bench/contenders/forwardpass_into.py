"""forwardpass on the caller's buffers: `model.run_into(x, y)`."""

from __future__ import annotations

import numpy as np

from network import Array, Network

from . import Options, Ready
from .forwardpass import details, make_model, version

__all__ = ["TAKES_ISA", "setup", "version"]

TAKES_ISA = True


def setup(network: Network, x: Array, options: Options) -> Ready:
    model = make_model(network, x, options)
    y = np.full_like(model(x), np.nan)
    return Ready(model.run_into, (x, y), lambda _: y, details(model, x))
