"""Sequences piece by piece: the states that a model passes from one call to the next stay inside a `Stream`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .dtypes import name_of
from .errors import InputError, unknown
from .graph import Array, TensorType
from .inputs import as_array, as_mapping, bind_arguments
from .plan import Plan
from .recurrence import show_states
from .result import result_type

if TYPE_CHECKING:
    from .run import Model

__all__ = ["Stream", "pair_states"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BEFORE = frozenset({"in", "input", "past", "prev", "previous", "old", "initial", "init", "last", "0"})
_AFTER = frozenset({"out", "output", "present", "next", "new", "updated", "final", "n", "y"})
_EITHER = frozenset({"values", "value"})
"""Of `past_key_values.0.key` and `present.0.key` only "past" and "present" say which is which."""


def _words(name: str) -> list[str]:
    """The words of a name in lower case; hn, cn and stateN end with one of their own."""
    found = [w.lower() for w in _WORD.findall(name)]
    if len(found) == 1 and len(found[0]) == 2 and found[0][1] == "n":
        return [found[0][0], "n"]
    return found


def _stems(name: str, roles: frozenset[str]) -> tuple[str, ...]:
    """What a name says beyond its role: its words without the first that tells one, from either end."""
    words = _words(name)
    places = [k for k in (*range(len(words)), -1) if words[k : k + 1] and words[k] in roles]
    if "0" in roles:  # a number is only a role at the end: h0, but not layer.0.h
        places = [k for k in places if words[k] != "0" or k in (len(words) - 1, -1)]
    if places:
        place = places[0] % len(words)
        words = words[:place] + words[place + 1 :]
    if len(words) > 1 and words[0] == "key" and words[1] in _EITHER:  # past_key_values.0.key
        words = words[2:]
    return tuple(words)


def _alike(a: TensorType, b: TensorType) -> bool:
    """Whether a value of type b may follow one of type a: sizes that a call decides may differ."""
    if a.dtype != b.dtype or a.container or b.container:
        return False
    if a.shape is None or b.shape is None:
        return True
    if len(a.shape) != len(b.shape):
        return False
    return all(not (isinstance(x, int) and isinstance(y, int)) or x == y for x, y in zip(a.shape, b.shape))


def pair_states(inputs: Mapping[str, TensorType], outputs: Mapping[str, TensorType]) -> dict[str, str]:
    """The outputs that are the next values of inputs, by their names: h and hn, state and stateN, past_* and
    present_*, *_in and *_out and the like, of equal dtype and of shapes that may be equal.

    Returns
    -------
    dict
        Input name -> output name. Empty where nothing fits, or where all inputs or all outputs do: then names do not
        tell a state from a frame.
    """
    ends: dict[tuple[str, ...], list[str]] = {}
    for name in outputs:
        ends.setdefault(_stems(name, _AFTER), []).append(name)
    found: dict[str, str] = {}
    for name, declared in inputs.items():
        stem = _stems(name, _BEFORE)
        fits = [o for o in ends.get(stem, ()) if stem and o != name and _alike(declared, outputs[o])]
        if len(fits) == 1 and fits[0] not in found.values():
            found[name] = fits[0]
    whole = len(found) == len(inputs) or len(found) == len(outputs)
    return {} if whole else found


class Stream:
    """A model that is fed piece by piece; see `Model.stream`.

    A stream belongs to one thread at a time; any number of streams may share a model.

    Attributes
    ----------
    pairs : dict of str to str
        State input -> the output that is its next value.
    inputs, outputs : dict of str to TensorType
        What `push` takes and gives: the model's without the states.
    """

    def __init__(self, model: Model, states: Mapping[str, str] | None = None) -> None:
        self.model, self.pairs = _paired(model, states)
        self.inputs = {k: t for k, t in model.inputs.items() if k not in self.pairs}
        ends = set(self.pairs.values())
        self.outputs = {k: t for k, t in model.outputs.items() if k not in ends}
        self._result = _result_of(list(self.outputs))
        self._given: dict[str, Array] = {}
        self._states: dict[str, Array] = {}
        self._forget()

    def _forget(self) -> None:
        """No buffers: the next push finds out the shapes."""
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._turn = 0
        self._buffers: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._made: list[tuple[str, tuple[int, ...], np.dtype[Any]]] = []

    def push(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model on the next piece.

        Once a second piece of the same shapes has come, nothing but the outputs is allocated.

        Parameters
        ----------
        *args, **kwargs
            The inputs that are no states, as for a call of the model.

        Returns
        -------
        ndarray or named tuple
            The outputs that are no states.

        Raises
        ------
        InputError
            As a call of the model does. The states are then as they were.
        """
        frames: Mapping[str, Any] = dict(zip(self.inputs, args)) if not kwargs else {}
        if len(frames) != len(self.inputs) or len(args) != len(frames):
            frames = bind_arguments(args, kwargs, self.inputs)
        shapes = tuple(v.shape if type(v) is np.ndarray else None for v in frames.values())
        return self._fast(frames) if shapes == self._shapes else self._slow(frames)

    def _fast(self, frames: Mapping[str, Any]) -> Any:
        """From one set of states into the other."""
        inputs, outputs = self._buffers[self._turn]
        inputs.update(frames)
        made = []
        for name, shape, dtype in self._made:
            made.append(np.empty(shape, dtype))
            outputs[name] = made[-1]
        self.model.run_into(inputs, outputs)
        self._turn ^= 1
        return self._result(made)

    def _slow(self, frames: Mapping[str, Any]) -> Any:
        frames = {k: as_array(k, v, self.inputs[k]) for k, v in frames.items()}
        before = self.states or self._first(frames)
        bound = {k: before[k] if k in before else frames[k] for k in self.model.inputs}
        results = dict(zip(self.model.outputs, self.model.outputs_for(bound)))
        after = {i: results[o] for i, o in self.pairs.items()}
        for name, value in after.items():
            if value.ndim != before[name].ndim or name_of(value.dtype) != name_of(before[name].dtype):
                raise InputError(
                    "the output cannot be the next value of the state", where=f"state {name!r}",
                    expected=str(TensorType.of(before[name])), got=str(TensorType.of(value)),
                )  # fmt: skip
        self._forget()
        self._states = after
        made = [results[o] for o in self.outputs]
        # Only a plan knows the shapes of all outputs before it runs, and takes memory to write them to.
        whole = isinstance(self.model.plan({k: v.shape for k, v in bound.items()}), Plan)
        if whole and all(after[k].shape == v.shape for k, v in before.items()):
            self._shapes = tuple(v.shape for v in frames.values())
            self._made = [(o, v.shape, v.dtype) for o, v in zip(self.outputs, made)]
            self._make_buffers(after)
        return self._result(made)

    def _make_buffers(self, states: Mapping[str, Array]) -> None:
        """Two sets of states, the first of which holds these."""
        first = {k: np.array(v, order="C") for k, v in states.items()}
        second = {k: np.empty_like(v) for k, v in first.items()}
        blank = dict.fromkeys(self.model.inputs)
        for old, new in ((first, second), (second, first)):
            self._buffers.append(({**blank, **old}, {self.pairs[k]: v for k, v in new.items()}))

    def _first(self, frames: Mapping[str, Array]) -> dict[str, Array]:
        """The states before the first piece: as given to `reset`, else zeros."""
        sizes: dict[Any, int] = {}
        for known, types in ((frames, self.inputs), (self._given, self.model.inputs)):
            for name, value in known.items():
                sizes.update((d, n) for d, n in zip(types[name].shape or (), value.shape) if isinstance(d, str))
        found = {}
        for name in self.pairs:
            declared = self.model.inputs[name]
            if name in self._given:
                found[name] = self._given[name]
            elif declared.shape is None:
                raise InputError(
                    "the state has no shape", where=f"state {name!r}", hint=f"reset({name}=array) gives its value"
                )
            else:
                # A cache of what is past has no entries yet; any other size that nothing says is that of one sample.
                open_size = 0 if "past" in _words(name) or "cache" in _words(name) else 1
                shape = [d if isinstance(d, int) else sizes.get(d, open_size) for d in declared.shape]
                found[name] = np.zeros(shape, declared.dtype)
        return found

    @property
    def states(self) -> dict[str, Array]:
        """The present states by input name, as copies; empty before the first piece."""
        held = self._buffers[self._turn][0] if self._buffers else self._states
        return {k: np.array(held[k]) for k in self.pairs} if held else {}

    def reset(self, **states: Any) -> None:
        """Go back to the start.

        Parameters
        ----------
        **states
            State input -> its first value, by default zeros. What is not given starts with zeros again.

        Raises
        ------
        InputError
            A name that is no state, or an array that does not fit; the stream is then as it was.
        """
        for name in states:
            if name not in self.pairs:
                raise unknown("state", name, "reset", self.pairs)
        given = {k: np.array(as_array(k, v, self.model.inputs[k])) for k, v in states.items()}
        for name, value in given.items():
            if not _alike(self.model.inputs[name], TensorType.of(value)):
                expected, got = str(self.model.inputs[name]), str(TensorType.of(value))
                raise InputError("wrong shape", where=f"state {name!r}", expected=expected, got=got)
        self._given, self._states = given, {}
        self._forget()

    def copy(self) -> Stream:
        """A stream that goes on from here by itself."""
        made = Stream(self.model, self.pairs)
        made._given, made._states = self._given, self.states
        return made

    def __repr__(self) -> str:
        pairs = ", ".join(f"{i} -> {o}" for i, o in self.pairs.items())
        return f"<Stream of {self.model.graph.name or 'unnamed'}({', '.join(self.inputs)}); states {pairs}>"


def _result_of(names: list[str]) -> Callable[[list[Any]], Any]:
    """What a push returns for its outputs: the one itself, or a named tuple of several."""
    if len(names) == 1:
        return lambda made: made[0]
    kind = result_type(tuple(names))
    return lambda made: kind(*made)


def _paired(model: Model, states: Mapping[str, str] | None) -> tuple[Model, dict[str, str]]:
    """The model that a stream runs, and its states."""
    if states is not None:
        return model, _checked(model, dict(as_mapping(states, "stream", "state input -> output")))
    pairs = pair_states(model.inputs, model.outputs)
    if pairs:
        return model, pairs
    graph, pairs = show_states(model.graph)
    if not pairs:
        raise InputError(
            "no output is known to be the next value of an input", where="stream",
            got=f"inputs {', '.join(model.inputs)}; outputs {', '.join(model.outputs)}",
            hint="name them: model.stream({'h': 'hn'})",
        )  # fmt: skip
    return model.like(graph), pairs


def _checked(model: Model, pairs: dict[str, str]) -> dict[str, str]:
    for what, names, known in (("input", pairs, model.inputs), ("output", pairs.values(), model.outputs)):
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise unknown(what, name, "stream", known)
    if not pairs or len(set(pairs.values())) < len(pairs) or len(pairs) == len(model.outputs):
        expected = "input -> output, each output once, and one output that is no state"
        raise InputError("the states are wrong", where="stream", expected=expected, got=str(pairs))
    for i, o in pairs.items():
        if not _alike(model.inputs[i], model.outputs[o]):
            raise InputError(
                f"output {o!r} cannot be the next value of input {i!r}", where="stream",
                expected=str(model.inputs[i]), got=str(model.outputs[o]),
            )  # fmt: skip
    return pairs
