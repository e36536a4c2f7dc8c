"""ATen's operators by what they are made of here. A definition takes the emitter and the arguments of the schema."""

from __future__ import annotations

from . import elementwise, fused, layers, normalization, pools, recurrent, reduce, shapes  # noqa: F401  they fill the table
from ._table import OPERATORS

__all__ = ["OPERATORS"]
