"""GroupQueryAttention in native kernels: groups, caches, windows, rotary embedding, sequences of several lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_operands import BATCH, GROUPS, SETTINGS, WIDE, counts, normal, past, queries, tables, trimmed
from judged import judge
from planned import run

from forwardpass.errors import InputError
from forwardpass.graph import Graph, Node, TensorType
from forwardpass.ops.microsoft import DOMAIN
from forwardpass.passes import optimize


def turn(rng: np.random.Generator, attributes: Any, rows: int = 16, width: int = WIDE // 2) -> list[Any]:
    """The tables where the attributes ask for them."""
    return tables(rng, rows, width) if attributes.get("do_rotary") else [None, None]


def check(inputs: list[Any], attributes: Any, outputs: int = 3) -> None:
    inputs = trimmed(inputs)
    fixed = (6, 11) if len(inputs) > 11 else (6,)
    judge("GroupQueryAttention", tuple(inputs), fixed, DOMAIN, outputs, **{**GROUPS, **attributes})


@pytest.mark.parametrize("attributes", SETTINGS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lengths", [(5, 5), (2, 5)])
def test_prompt(rng: np.random.Generator, attributes: Any, packed: bool, lengths: tuple[int, ...]) -> None:
    given = queries(rng, 5)
    if packed:
        given = [np.concatenate(given, 2), None, None]
    inputs = [*given, None, None, *counts(*lengths), *turn(rng, attributes)]
    check(inputs, attributes)
    check(inputs, attributes, outputs=1)


@pytest.mark.parametrize("attributes", SETTINGS)
@pytest.mark.parametrize("room", [5, 9])  # a cache that grows, and one with room
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_past(rng: np.random.Generator, attributes: Any, room: int, length: int, packed: bool) -> None:
    given = queries(rng, length)
    if packed:
        given = [np.concatenate(given, 2), None, None]
    check([*given, *past(rng, room), *counts(4, 6), *turn(rng, attributes)], attributes)


def test_prompt_into_a_cache_with_room(rng: np.random.Generator) -> None:
    check([*queries(rng, 4), *past(rng, 9), *counts(4, 4)], {})


@pytest.mark.parametrize("length", [1, 4])
def test_bias_and_sinks(rng: np.random.Generator, length: int) -> None:
    bias, sinks = normal(rng, BATCH, 1, length, 6), normal(rng, 4)
    check(
        [*queries(rng, length), *past(rng, 6), *counts(6, 5, total=6), None, None, None, bias, sinks], {"softcap": 2.0}
    )


def test_given_positions(rng: np.random.Generator) -> None:
    attributes = {"do_rotary": 1}
    prompt = np.array([[2, 5, 6, 9], [1, 3, 4, 0]])
    check([*queries(rng, 4), None, None, *counts(4, 4), *turn(rng, attributes), prompt], attributes)
    places = np.array([[7], [2]])
    check([*queries(rng, 1), *past(rng, 5), *counts(6, 6), *turn(rng, attributes), places], attributes)


@pytest.mark.parametrize("attributes", [{"causal": 0}, {"do_rotary": 1, "local_window_size": 100}])
def test_long(rng: np.random.Generator, attributes: Any) -> None:
    check([*queries(rng, 70), None, None, *counts(33, 70), *turn(rng, attributes, 80)], attributes)
    check([*queries(rng, 2), *past(rng, 300), *counts(290, 302), *turn(rng, attributes, 400)], attributes)


def test_part_of_a_head_turns(rng: np.random.Generator) -> None:
    attributes = {"do_rotary": 1}
    check([*queries(rng, 3), *past(rng, 5), *counts(5, 8), *turn(rng, attributes, 9, width=3)], attributes)


def graph_of(inputs: list[Any], attributes: Any) -> tuple[Graph, dict[str, Any]]:
    named = {f"in{k}": a for k, a in enumerate(inputs) if a is not None}
    names = [f"in{k}" if f"in{k}" in named else "" for k in range(len(inputs))]
    node = Node("GroupQueryAttention", names, ["y", "keys", "values"], {**GROUPS, **attributes}, DOMAIN)
    constants = {"in6": named.pop("in6")}
    types = {k: TensorType.of(v) for k, v in named.items()}
    graph, _ = optimize(Graph(types, list(node.outputs), [node], constants))
    return graph, named


@pytest.mark.parametrize("attributes", [{}, {"do_rotary": 1}, {"local_window_size": 40}, {"smooth_softmax": 1}])
def test_neither_batch_nor_padding_changes_a_bit(rng: np.random.Generator, isa: str, attributes: Any) -> None:
    angles = turn(rng, attributes, 400)
    for length, before in ((1, (270, 40)), (6, (3, 290))):
        q, k, v = queries(rng, length)
        room = max(before)
        keys, values = past(rng, room)
        ends = [b + length for b in before]
        graph, given = graph_of([q, k, v, keys, values, *counts(*ends), *angles], attributes)
        whole = run(graph, given, isa)
        for b, end in enumerate(ends):
            one = slice(b, b + 1)
            own = [keys[one, :, : before[b]], values[one, :, : before[b]]]
            graph, given = graph_of([q[one], k[one], v[one], *own, *counts(end), *angles], attributes)
            alone = run(graph, given, isa)
            assert alone["y"].tobytes() == whole["y"][one].tobytes()
            assert alone["keys"].tobytes() == np.ascontiguousarray(whole["keys"][one, :, :end]).tobytes()


@pytest.mark.parametrize("last", [-1, 6, 2_000_000_000])
def test_lengths_are_checked(rng: np.random.Generator, last: int) -> None:
    lengths = np.array([4, last], np.int32)
    graph, given = graph_of([*queries(rng, 1), *past(rng, 5), lengths, np.array(6, np.int32)], {})
    with pytest.raises(InputError, match="out of range"):
        run(graph, given, "scalar")


def test_positions_are_checked(rng: np.random.Generator) -> None:
    attributes = {"do_rotary": 1}
    graph, given = graph_of([*queries(rng, 1), *past(rng, 5), *counts(6, 6), *turn(rng, attributes, 5)], attributes)
    with pytest.raises(InputError, match="out of range"):
        run(graph, given, "scalar")


def test_padding_may_be_anything(rng: np.random.Generator, isa: str) -> None:
    """What an uninitialised cache holds behind a sequence is not looked at."""
    keys, values = past(rng, 300)
    graph, given = graph_of([*queries(rng, 1), keys, values, *counts(7, 280, total=300)], {})
    want = run(graph, given, isa)["y"]
    for state in (keys, values):
        state[0, :, 7:] = np.nan
        state[1, :, 280:] = np.inf
    assert run(graph, given, isa)["y"].tobytes() == want.tobytes()
