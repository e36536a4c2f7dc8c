"""Rewrites of graphs: what makes them smaller and faster without changing what they compute.

Every rewrite is a file with rules, and `PIPELINE` is their order. A rule looks at one node and answers with a
patch, with the reason why its pattern cannot be rewritten here, or with nothing; `rewrite.run` does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import __version__
from ..errors import ConfigError, suggest
from ..graph import Graph, TensorType
from ..ops import infer_types
from . import (
    compose_activation,
    compose_attention,
    compose_norms,
    drop_identity,
    fold_affine,
    fold_constants,
    fold_pad,
    fuse_activation,
    fuse_multiply_add,
    fuse_residual,
    fuse_scale,
    hoist_transposes,
    inline_if,
    layout_nhwc,
    lower_batchnorm,
    mark_pooled,
    merge_transposes,
    merge_views,
    pool_first,
    read_planes,
    split_attention,
    standard_gelu,
    to_linear,
)
from .float_attributes import round_attributes
from .log import Entry, Log
from .rewrite import Declined, Pass, Patch, Rule, rule, run
from .view import View, named_sizes
from .widen_half import widen

__all__ = [
    "PIPELINE",
    "Declined",
    "Entry",
    "Log",
    "Pass",
    "Patch",
    "Rule",
    "View",
    "optimize",
    "optimized_view",
    "passed",
    "rule",
]

PIPELINE: tuple[Pass, ...] = (
    # First, so that all others see weights, shapes and bounds as constants.
    fold_constants.PASS,
    inline_if.PASS,
    # What changes nothing only stands between the nodes of other patterns.
    drop_identity.PASS,
    merge_views.PASS,
    merge_transposes.PASS,
    # While the operators still are ONNX's: f(x) * x is one operand for the layout, and one epilogue later.
    compose_activation.PASS,
    compose_norms.PASS,
    split_attention.PASS,
    standard_gelu.PASS,
    # Before products with weights are no MatMul any more, and before Transposes move away from the heads.
    compose_attention.PASS,
    to_linear.PASS,
    # BatchNormalization has its channels on axis 1; only as a ScaleShift can it follow another layout.
    lower_batchnorm.PASS,
    # Every image operator gets two Transposes, and they move until they cancel. After that the channels are the
    # last dimension of all layers, which is what the folds below look at.
    layout_nhwc.PASS,
    hoist_transposes.PASS,
    # Biases and scales before residuals and activations: an epilogue adds the bias first and activates last.
    fold_affine.PASS,
    fold_pad.PASS,
    fuse_residual.PASS,
    # What is left of additions, before the activations behind them.
    fuse_multiply_add.PASS,
    fuse_activation.PASS,
    fuse_scale.PASS,
    pool_first.PASS,
    # The first layer now has its last form, and may have no residual.
    read_planes.PASS,
    mark_pooled.PASS,
    # Not before the Transposes have met: as a Reshape one could not cancel any more.
    merge_transposes.AS_VIEWS,
    merge_views.AGAIN,
)
"""All passes, in order."""


def optimize(
    graph: Graph,
    types_of_inputs: Mapping[str, TensorType] | None = None,
    *,
    stop_after: str | None = None,
    check: bool = False,
) -> tuple[Graph, Log]:
    """Apply the passes to a copy of a graph.

    Inputs, outputs and their names stay. Arrays are shared with the given graph, and never changed.

    Parameters
    ----------
    graph
        Any graph that `Graph.verify` accepts.
    types_of_inputs
        Types in place of those that the graph says, such as the shapes of one call; the result then only holds
        for those.
    stop_after
        The name of the last pass to apply.
    check
        Verify the structure and the types after every single rewrite, for tests.

    Raises
    ------
    GraphError, UnsupportedError
        The graph is not valid, or has an operator that does not exist.
    ConfigError
        No pass is called `stop_after`.
    """
    view, log = optimized_view(graph, types_of_inputs, stop_after=stop_after, check=check)
    return view.graph, log


def optimized_view(
    graph: Graph,
    types_of_inputs: Mapping[str, TensorType] | None = None,
    *,
    stop_after: str | None = None,
    check: bool = False,
) -> tuple[View, Log]:
    """As `optimize`, with the types of the values."""
    if stop_after is not None and all(p.name != stop_after for p in PIPELINE):
        names = [p.name for p in PIPELINE]
        hint = suggest(stop_after, names)
        raise ConfigError(
            "unknown pass", where="stop_after", expected=f"one of {', '.join(names)}", got=stop_after, hint=hint
        )
    graph.verify()
    copy = graph.copy()
    copy.prune()
    round_attributes(copy)
    log = Log()
    changed = widen(copy, types_of_inputs, log)
    view = View(copy, types_of_inputs)
    for step in PIPELINE:
        changed |= run(view, step, log, check=check)
        if step.name == stop_after:
            break
    if check:
        view.verify("passes")
    elif changed:
        view.write()
    return view, log


def passed(graph: Graph) -> tuple[Graph, dict[str, TensorType], Log]:
    """A graph after the passes, the types of its values, and what the passes did: nothing where its file says that this
    version saved it after them.

    Raises
    ------
    GraphError, UnsupportedError
        As `optimize`.
    """
    if graph.optimized_by != __version__:
        view, log = optimized_view(graph)
        return view.graph, view.types(), log
    graph.verify()
    copy = graph.copy()
    return copy, infer_types(copy, named_sizes(copy, {})), Log()
