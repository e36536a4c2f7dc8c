"""What a model has around its forward pass: other formats."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from .graph import Graph

__all__ = ["Around"]


class Around:
    """The methods of a model that its calls do not need; each imports what it needs when it is called."""

    __slots__ = ()

    if TYPE_CHECKING:
        graph: Graph

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> onnx.ModelProto | None:
        """Write the model, as it was before the passes, as an ONNX file. Needs the package onnx.

        The file is of the oldest opset from 17 on that has all its nodes, so that most tools read it.

        Parameters
        ----------
        path
            The file. Weights beyond the 2 GiB of one file go into a second one, `<path>.data`.

        Returns
        -------
        onnx.ModelProto or None
            The model where there is no path.

        Raises
        ------
        UnsupportedError
            What ONNX cannot hold; without a path, more than 2 GiB; or onnx is not installed.
        FileError
            The file cannot be written.
        """
        from .formats.onnx import export

        if path is None:
            return export.to_model(self.graph)
        export.write(self.graph, path)
        return None
