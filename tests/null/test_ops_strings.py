"""Operators on text, and TfIdfVectorizer."""

from __future__ import annotations

import contextlib
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import run, texts

from forwardpass.dtypes import STRING
from forwardpass.errors import GraphError, UnsupportedError
from tolerance import EXACT


def test_joined_texts() -> None:
    pairs = np.array([["a", "b"], ["c", "é"]], STRING)
    assert run("StringConcat", pairs, texts("文", "")).tolist() == [["a文", "b"], ["c文", "é"]]
    alone = run("StringConcat", np.array("x", STRING), np.array("y", STRING))
    assert alone.shape == ()
    assert alone == "xy"
    assert run("StringConcat", np.empty((0, 2), STRING), texts("a", "b")).shape == (0, 2)
    with pytest.raises(GraphError, match="string"):
        run("StringConcat", pairs, np.ones(2))


@pytest.mark.parametrize(
    ("attributes", "parts", "counts"),
    [
        ({}, [["a", "b", "c"], ["d", "", ""], ["", "", ""]], [3, 1, 0]),
        ({"maxsplit": 1}, [["a", "b c"], ["d", ""], ["", ""]], [2, 1, 0]),
        ({"delimiter": " "}, [["", "a", "", "b", "c"], ["d", "", "", "", ""], ["", "", "", "", ""]], [5, 1, 1]),
        ({"delimiter": " ", "maxsplit": 1}, [["", "a  b c"], ["d", ""], ["", ""]], [2, 1, 1]),
    ],
)
def test_split_texts(attributes: dict[str, Any], parts: Any, counts: list[int]) -> None:
    y, z = run("StringSplit", texts(" a  b c", "d", ""), outputs=2, **attributes)
    assert y.tolist() == parts
    assert z.tolist() == counts
    y, z = run("StringSplit", np.empty((2, 0), STRING), outputs=2, **attributes)
    assert (y.shape, z.shape) == ((2, 0, 0), (2, 0))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["a", "B", "É", "b c"]),
        ({"stopwords": ["A", "é"]}, ["B", "b c"]),
        ({"stopwords": ["A", "é"], "is_case_sensitive": 1}, ["a", "B", "É", "b c"]),
        ({"stopwords": ["b"], "case_change_action": "LOWER"}, ["a", "é", "b c"]),
        ({"case_change_action": "UPPER"}, ["A", "B", "É", "B C"]),
        ({"stopwords": ["a", "b", "é", "b c"]}, [""]),
    ],
)
def test_normalized_texts(attributes: dict[str, Any], expected: list[str]) -> None:
    x = texts("a", "B", "É", "b c")
    assert run("StringNormalizer", x, **attributes).tolist() == expected
    assert run("StringNormalizer", x[None], **attributes).tolist() == [expected]
    with pytest.raises(GraphError, match="rows"):
        run("StringNormalizer", np.stack([x, x]))


_TEXTS = ["", "a", "ab", "A", "b", "ba", "a\n", "é", "1", "٣", "a@x.org", "a-b", "word word", "\n", "Ab"]
# What RE2 finds.
_PATTERNS = {
    "a*": ["", "a"],
    "(?i)a": ["a", "A"],
    "a(?i)b|B": ["ab", "b"],
    "(a(?i)|x)b": ["ab"],
    "(?i:a)b": ["ab", "Ab"],
    r"\w+": ["a", "ab", "A", "b", "ba", "1", "Ab"],
    "[[:alpha:]]+": ["a", "ab", "A", "b", "ba", "Ab"],
    "[^[:alpha:]]+": ["é", "1", "٣", "\n"],
    r"\pL+": ["a", "ab", "A", "b", "ba", "é", "Ab"],
    r"\p{Lu}": ["A"],
    r"[\p{L}\d]": ["a", "A", "b", "é", "1"],
    r"\P{L}+": ["1", "٣", "\n"],
    r"[\D]": ["a", "A", "b", "é", "٣", "\n"],
    r"\Qa-b\E": ["a-b"],
    "a$": ["a"],
    r"a$\n": [],
    r"(?m)a$\n": ["a\n"],
    ".": ["a", "A", "b", "é", "1", "٣"],
    "(?s).": ["a", "A", "b", "é", "1", "٣", "\n"],
    r"\x{61}|\x62|\101": ["a", "A", "b"],
    r"\bword\b \bword\b": ["word word"],
    r"\B": [""],
    r"[\w.]+@\w+\.org": ["a@x.org"],
    "(?P<n>a)b?": ["a", "ab"],
    "(?U)a+b?": ["a", "ab"],
    "a{1}": ["a"],
    "a{,2}": [],
    "[]a]": ["a"],
}


@pytest.mark.parametrize("pattern", _PATTERNS)
def test_regular_expressions_match_as_in_re2(pattern: str) -> None:
    found = run("RegexFullMatch", texts(*_TEXTS), pattern=pattern)
    assert [t for t, f in zip(_TEXTS, found) if f] == _PATTERNS[pattern]


@pytest.mark.parametrize(
    "pattern",
    ["a**", "a++", "(?=a)a", r"(a)\1", "[a", "x{1001}", r"\8", "a|*", "(a", "a)", r"a\y", "[[:word", r"\x{zz}", "["],
)
def test_what_re2_does_not_know_is_an_error(pattern: str) -> None:
    with pytest.raises(GraphError, match="'pattern'"):
        run("RegexFullMatch", texts("a"), pattern=pattern)


def test_scripts_are_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="Greek"):
        run("RegexFullMatch", texts("a"), pattern=r"\p{Greek}")


@given(st.text("ab()[]{}*+?|^$\\.-:PpdQEx,01i", max_size=12))
def test_any_expression_is_compiled_or_refused(pattern: str) -> None:
    found = None
    with contextlib.suppress(GraphError, UnsupportedError):
        found = run("RegexFullMatch", texts("a", "ab"), pattern=pattern)
    assert found is None or found.shape == (2,)


_POOL = {"ngram_counts": [0, 3, 7], "pool_int64s": [1, 2, 3, 1, 2, 2, 1, 1, 2, 3], "ngram_indexes": [4, 0, 1, 3, 2, 5]}
_GRAMS = [(1,), (2,), (3,), (1, 2), (2, 1), (1, 2, 3)]


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 2])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 2), (2, 3), (1, 3), (3, 3)])
@pytest.mark.parametrize("text", [False, True])
def test_counts_of_n_grams(mode: str, skips: int, lengths: tuple[int, int], text: bool, rng: Any) -> None:
    x = rng.integers(1, 5, (4, 9))
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    expected = np.zeros((4, 6), np.float32)
    for row, gram in product(range(4), range(6)):
        n = len(_GRAMS[gram])
        if not lengths[0] <= n <= lengths[1]:
            continue
        count = 0
        for step in range(1, 2 if n == 1 else skips + 2):
            count += sum(tuple(x[row, k : k + step * n : step]) == _GRAMS[gram] for k in range(9 - step * (n - 1)))
        factor = 1 if mode == "TF" else weights[gram]
        expected[row, _POOL["ngram_indexes"][gram]] = factor * (min(count, 1) if mode == "IDF" else count)
    attributes: dict[str, Any] = {**_POOL, "weights": weights, "mode": mode, "max_skip_count": skips}
    attributes |= {"min_gram_length": lengths[0], "max_gram_length": lengths[1]}
    if text:
        attributes["pool_strings"] = [str(v) for v in attributes.pop("pool_int64s")]
        x = x.astype(str).astype(STRING)
    np.testing.assert_allclose(run("TfIdfVectorizer", x, **attributes), expected, **EXACT)
    np.testing.assert_allclose(run("TfIdfVectorizer", x[0], **attributes), expected[0], **EXACT)
    assert run("TfIdfVectorizer", x[:, :0], **attributes).tolist() == np.zeros((4, 6)).tolist()
