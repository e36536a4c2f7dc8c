"""English words to phonemes, with the weights of the package g2p-en: two recurrent networks around a loop.

    python grapheme_to_phoneme.py checkpoint20.npz transformer tensorflow

The encoder reads the letters and gives a state; the decoder takes that state and the last phoneme, and gives the next
one, until it gives the end of the word. The weights are PyTorch's, which the functions below bring into the order of
the operators. Runs in a second.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardpass as fp

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONEMES = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "AA0",
    "AA1",
    "AA2",
    "AE0",
    "AE1",
    "AE2",
    "AH0",
    "AH1",
    "AH2",
    "AO0",
    "AO1",
    "AO2",
    "AW0",
    "AW1",
    "AW2",
    "AY0",
    "AY1",
    "AY2",
    "B",
    "CH",
    "D",
    "DH",
    "EH0",
    "EH1",
    "EH2",
    "ER0",
    "ER1",
    "ER2",
    "EY0",
    "EY1",
    "EY2",
    "F",
    "G",
    "HH",
    "IH0",
    "IH1",
    "IH2",
    "IY0",
    "IY1",
    "IY2",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "OW0",
    "OW1",
    "OW2",
    "OY0",
    "OY1",
    "OY2",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "UH0",
    "UH1",
    "UH2",
    "UW",
    "UW0",
    "UW1",
    "UW2",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
LONGEST = 20

Array = np.ndarray[Any, Any]


def gates(array: Array) -> Array:
    """PyTorch has the gates of a GRU in the order r z n, the operator in the order z r n."""
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new])


def recurrent(graph: fp.Graph, weights: Mapping[str, Array], part: str, state: str) -> list[fp.Node]:
    """Nodes from numbers `ids` [1, time] to the state behind the last: [1, 1, hidden]."""
    w_ih, w_hh, b_ih, b_hh = (gates(weights[f"{part}_{k}"]) for k in ("w_ih", "w_hh", "b_ih", "b_hh"))
    graph.constants["table"] = weights[f"{part}_emb"]
    graph.constants["W"], graph.constants["R"] = w_ih[None], w_hh[None]
    graph.constants["B"] = np.concatenate([b_ih, b_hh])[None]
    return [
        fp.Node("Gather", ["table", "ids"], ["rows"], {"axis": 0}),
        fp.Node("Transpose", ["rows"], ["steps"], {"perm": [1, 0, 2]}),
        fp.Node(
            "GRU",
            ["steps", "W", "R", "B", "", state],
            ["", "h"],
            {"hidden_size": w_hh.shape[1], "linear_before_reset": 1},
        ),
    ]


def networks(weights: Mapping[str, Array]) -> tuple[fp.Model, fp.Model]:
    """The encoder, from letters to a state; and one step of the decoder, from a phoneme and a state to the next."""
    numbers = fp.TensorType(np.dtype(np.int64), (1, "time"))
    encoder = fp.Graph({"ids": numbers}, ["h"], name="encoder")
    encoder.nodes = recurrent(encoder, weights, "enc", "")
    state = fp.TensorType(np.dtype(np.float32), (1, 1, weights["dec_w_hh"].shape[1]))
    decoder = fp.Graph({"ids": numbers, "state": state}, ["scores", "h"], name="decoder")
    decoder.nodes = recurrent(decoder, weights, "dec", "state")
    decoder.constants["K"] = np.ascontiguousarray(weights["fc_w"].T)
    decoder.constants["b"] = weights["fc_b"]
    decoder.nodes += [
        fp.Node("MatMul", ["h", "K"], ["products"]),
        fp.Node("Add", ["products", "b"], ["scores"]),
    ]
    return fp.Model(encoder), fp.Model(decoder)


def phonemes(word: str, encoder: fp.Model, decoder: fp.Model) -> list[str]:
    """The phonemes of a word."""
    unknown = LETTERS.index("<unk>")
    ids = [LETTERS.index(c) if c in LETTERS else unknown for c in word.lower()]
    state = encoder(np.array([[*ids, LETTERS.index("</s>")]]))
    found: list[str] = []
    last = START
    while len(found) < LONGEST:
        scores, state = decoder(np.array([[last]]), state)
        last = int(scores.argmax())
        if last == END:
            break
        found.append(PHONEMES[last])
    return found


def main(path: str, *words: str) -> None:
    encoder, decoder = networks(fp.read_weights(path))
    for word in words or ("transformer", "activationist", "tensorflow"):
        print(f"{word:20} {' '.join(phonemes(word, encoder, decoder))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
