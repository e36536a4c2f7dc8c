"""How near sentences are in meaning, with the sentence transformer all-MiniLM-L6-v2.

    pip install "forwardpass[onnx,text]"
    python sentence_similarity.py model.onnx tokenizer.json "A man is eating food." "Someone is having a meal."

The network gives a vector per token; their mean over the tokens of a sentence, of length 1, is the sentence. The
product of two such vectors is the cosine of their angle: 1 for the same meaning, about 0 for none in common.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import forwardpass as fp

Array = np.ndarray[Any, Any]


def tokenize(path: str, sentences: Sequence[str]) -> tuple[Array, Array]:
    """Token numbers and mask [sentences, length] of sentences, by the tokenizer of a file."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise SystemExit('the tokenizer needs tokenizers: pip install "forwardpass[text]"') from None
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(sentences))
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def embed(model: fp.Model, ids: Array, mask: Array) -> Array:
    """A vector of length 1 per sentence. Padding has no part in it, so neither has what else is in the batch."""
    vectors = model(input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
    weights = mask[..., None].astype(np.float32)
    mean = (vectors * weights).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


def main() -> None:
    if len(sys.argv) < 5:
        raise SystemExit((__doc__ or "").partition("\n\nThe network")[0])
    sentences = sys.argv[3:]
    found = embed(fp.load(sys.argv[1]), *tokenize(sys.argv[2], sentences))
    for k, sentence in enumerate(sentences[1:], 1):
        print(f"{found[0] @ found[k]:6.3f}  {sentence}")


if __name__ == "__main__":
    main()
