"""Text, token by token, with a transformer that keeps the keys and values of what it has read.

    python generate.py "monday, mond"

The network is a transformer of two layers whose weights are written down instead of trained: an induction head, the
circuit by which language models repeat what they have seen. The first layer gives every place the token before it; the
second one looks for places whose token before was the present one, and says what came there. Its inputs and outputs
are those of an exported GPT: the past keys and values go in, and come out one token longer, and a stream carries them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import forwardpass as fp

LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
LENGTH = 256
"""Places that the network knows."""
SHARP = 30.0
"""How much larger the score of a match is than that of none: the softmax of such scores is a choice."""


def network() -> fp.Graph:
    """tokens, places [1, n] -> logits [1, n, letters], and the caches."""
    letters, floats, numbers = len(LETTERS), np.dtype(np.float32), np.dtype(np.int64)
    inputs: dict[str, fp.TensorType] = {k: fp.TensorType(numbers, (1, "n")) for k in ("tokens", "places")}
    sizes = {"0.key": LENGTH, "0.value": letters, "1.key": letters, "1.value": letters}
    for name, size in sizes.items():
        inputs[f"past_key_values.{name}"] = fp.TensorType(floats, (1, 1, "past", size))
    constants: dict[str, Any] = {
        "letters": np.eye(letters, dtype=np.float32),
        "place": np.eye(LENGTH, dtype=np.float32),
        "to_the_one_before": SHARP * np.eye(LENGTH, k=-1, dtype=np.float32),
        "sharp": np.float32(SHARP) * np.eye(letters, dtype=np.float32),
    }
    nodes = [
        fp.Node("Gather", ["letters", "tokens"], ["token"]),
        fp.Node("Gather", ["place", "places"], ["at"]),
        fp.Node("MatMul", ["at", "to_the_one_before"], ["q0"]),
        fp.Node("MatMul", ["token", "sharp"], ["q1"]),
    ]
    for layer, (q, k, y) in enumerate((("q0", "at", "before"), ("q1", "before", "logits"))):
        past = [f"past_key_values.{layer}.{n}" for n in ("key", "value")]
        present = [f"present.{layer}.{n}" for n in ("key", "value")]
        attributes = {"q_num_heads": 1, "kv_num_heads": 1, "is_causal": 1, "scale": 1.0}
        nodes.append(fp.Node("Attention", [q, k, "token", "", *past], [y, *present], attributes))
    outputs = ["logits", *(f"present.{n}" for n in sizes)]
    return fp.Graph(inputs, outputs, nodes, constants, name="induction")


def generate(model: fp.Model, prompt: str, count: int) -> str:
    """The prompt and `count` more letters, each the likeliest one after those before it."""
    stream = model.stream()
    tokens = np.array([[LETTERS.index(c) for c in prompt]])
    text, place = prompt, 0
    for _ in range(count):
        # The whole prompt first, then what the network has said last: the caches hold all before it.
        logits = stream.push(tokens, np.arange(place, place + tokens.shape[1])[None])
        place += tokens.shape[1]
        tokens = logits[:, -1:].argmax(axis=2)
        text += LETTERS[int(tokens[0, 0])]
    return text


def main() -> None:
    prompt = sys.argv[1] if len(sys.argv) > 1 else "monday, mond"
    print(generate(fp.Model(network()), prompt, 14))


if __name__ == "__main__":
    main()
