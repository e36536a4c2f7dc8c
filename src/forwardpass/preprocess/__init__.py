"""Pictures before the forward pass: decoded, and resized, cropped and normalised inside of the graph.

>>> import forwardpass as fp
>>> model = fp.load("model.npz").with_preprocessing("tf")    # doctest: +SKIP
>>> model.classify("dog.jpg")                                # doctest: +SKIP
"""

from __future__ import annotations

from .pictures import decode
from .settings import MODES, Preprocessing

__all__ = ["MODES", "Preprocessing", "decode"]
