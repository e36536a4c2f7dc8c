"""Einsum: sums of products, said by a text that names every dimension."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array, Dim, TensorType
from . import shapes
from .registry import REQUIRED, Attributes, Case, Constants, Types, operator

_ELLIPSIS = "."


def _term(text: str) -> str:
    """The letters of a term, with one point where it has an ellipsis."""
    letters = text.replace("...", _ELLIPSIS, 1)
    named = letters.replace(_ELLIPSIS, "", 1) if "..." in text else letters
    if not all(c.isascii() and c.isalpha() for c in named):
        raise GraphError("attribute 'equation' is wrong", expected="letters, and at most one '...' a term", got=text)
    return letters


def _terms(attributes: Attributes, count: int) -> tuple[list[str], str]:
    """The terms of the inputs and that of the output, each dimension a letter, an ellipsis a point."""
    equation = attributes["equation"]
    if not isinstance(equation, str):
        raise GraphError("attribute 'equation' is wrong", expected="a text", got=repr(equation))
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_term(t) for t in left.split(",")]
    if len(terms) != count:
        raise GraphError("attribute 'equation' is wrong", expected=f"{count} terms", got=equation)
    seen = Counter("".join(terms))
    if not arrow:
        once = sorted(c for c, n in seen.items() if n == 1 and c != _ELLIPSIS)
        return terms, (_ELLIPSIS if _ELLIPSIS in seen else "") + "".join(once)
    out = _term(right)
    if len(set(out)) != len(out) or not set(out) <= seen.keys() | {_ELLIPSIS}:
        raise GraphError("attribute 'equation' is wrong", expected="an output of different input letters", got=equation)
    return terms, out


def _labels(term: str, batch: int) -> list[str | int]:
    """A name for every dimension: the letters, and for those of an ellipsis numbers from 0."""
    labels: list[str | int] = []
    for c in term:
        labels += range(batch) if c == _ELLIPSIS else [c]
    return labels


def _batch(terms: list[str], ranks: list[int | None], out: str) -> int | None:
    """The dimensions that an ellipsis stands for; None where no rank tells."""
    found: int | None = None
    for k, (term, rank) in enumerate(zip(terms, ranks)):
        if rank is None:
            continue
        letters = len(term.replace(_ELLIPSIS, ""))
        here = rank - letters if _ELLIPSIS in term else None
        if (here is None and rank != letters) or (here is not None and here < 0):
            expected = f"rank {letters}" + ("" if here is None else " or more")
            raise GraphError(f"input {k} has the wrong rank", expected=expected, got=f"rank {rank}")
        if here is not None:
            if found not in (None, here):
                raise GraphError("an ellipsis stands for different ranks", expected=str(found), got=str(here))
            found = here
    return found if any(_ELLIPSIS in t for t in (*terms, out)) and any(_ELLIPSIS in t for t in terms) else 0


def _infer(attributes: Attributes, types: Types, constants: Constants) -> list[TensorType]:
    dtype = shapes.same_dtype(types, [str(k) for k in range(len(types))])
    given = [shapes.required(types, k, str(k), "fiu").shape for k in range(len(types))]
    terms, out = _terms(attributes, len(types))
    batch = _batch(terms, [None if s is None else len(s) for s in given], out)
    if batch is None:
        return [TensorType(dtype, None if _ELLIPSIS in out else (None,) * len(out))]
    sizes: dict[str | int, list[Dim]] = {}
    for term, shape in zip(terms, given):
        labels = _labels(term, batch)
        for label, d in zip(labels, (None,) * len(labels) if shape is None else shape):
            sizes.setdefault(label, []).append(d)
    merged = {label: _merged(label, found) for label, found in sizes.items()}
    return [shapes.tensor(dtype, [merged[label] for label in _labels(out, batch)])]


def _merged(label: str | int, sizes: list[Dim]) -> Dim:
    """The size of a dimension that several inputs have; those of size 1 are repeated."""
    (size,) = shapes.broadcast((sizes[0],), (1,)) or (None,)
    for d in sizes[1:]:
        try:
            (size,) = shapes.broadcast((size,), (d,)) or (None,)
        except GraphError:
            what = f"dimension {label!r}" if isinstance(label, str) else f"dimension {label} of the ellipsis"
            raise GraphError(f"the sizes of {what} differ", expected=str(size), got=str(d)) from None
    return size


def _reference(attributes: Attributes, *arrays: Array) -> Array:
    terms, out = _terms(attributes, len(arrays))
    batch = _batch(terms, [x.ndim for x in arrays], out) or 0
    labelled = [_labels(t, batch) for t in terms]
    names = {label: k for k, label in enumerate(dict.fromkeys(label for labels in labelled for label in labels))}
    full = dict.fromkeys(names, 1)
    for x, labels in zip(arrays, labelled):
        for label, size in zip(labels, x.shape):
            full[label] = size if full[label] == 1 else full[label]
    operands: list[Any] = []
    for x, labels in zip(arrays, labelled):
        # A dimension that is repeated goes: it multiplies the same value into all.
        gone = tuple(k for k, label in enumerate(labels) if x.shape[k] == 1 != full[label])
        wide = x.astype(np.float32) if x.dtype == np.float16 else x
        operands += [wide.squeeze(gone), [names[label] for k, label in enumerate(labels) if k not in gone]]
    wanted = [names[label] for label in _labels(out, batch)]
    # With an order of products, pairs of inputs become matrix products.
    y = np.einsum(*[*operands, wanted], optimize=len(arrays) > 1)
    return np.array(y, arrays[0].dtype)


operator(
    "Einsum",
    infer=_infer,
    reference=_reference,
    attributes={"equation": REQUIRED},
    arity=(1, None),
    cases=(
        Case(((3, 4), (4, 5)), {"equation": "ij,jk->ik"}),
        Case(((2, 3, 4), (2, 5, 4)), {"equation": "bij, bkj -> bik"}, name="batch"),
        Case(((3, 4),), {"equation": "ij->ji"}, name="transpose"),
        Case(((3, 4),), {"equation": "ij->i"}, name="sum"),
        Case(((3, 3),), {"equation": "ii->i"}, name="diagonal"),
        Case(((3, 3),), {"equation": "ii"}, name="trace"),
        Case(((3, 2), (2, 4)), {"equation": "bA,Ac"}, name="implicit output"),
        Case(((2, 3, 4, 5), (2, 3, 5, 2)), {"equation": "...ij,...jk->...ik"}, name="ellipsis"),
        Case(((2, 3, 4), (2, 4, 2)), {"equation": "...ij,...jk"}, name="implicit ellipsis"),
        Case(((4,), (5,)), {"equation": "i,j->ij"}, name="outer"),
        Case(((2, 3), (3, 4), (4, 2)), {"equation": "ab,bc,ca->"}, name="three"),
        Case((np.arange(6).reshape(2, 3), np.arange(3)), {"equation": "ij,j->i"}, name="integers"),
    ),
)
