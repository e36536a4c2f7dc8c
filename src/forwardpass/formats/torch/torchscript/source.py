"""The source text in TorchScript's archives, parsed: the part of Python's grammar that PyTorch writes, and no more.

Python's own parser makes the tree, and nothing of it is ever compiled. What would make that parser, or who walks its
tree, recurse deeply is looked for first.
"""

from __future__ import annotations

import ast
import re
import warnings

from ....errors import FileError
from ....records import record
from ...archive import Archive, excerpt

__all__ = ["Class", "Source"]

MAX_BYTES = 16 << 20
MAX_BRACKETS = 60
MAX_CHAIN = 40
"""Attributes, calls and indices that follow each other."""

_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_FLOAT = re.compile(r"(?<![\w.])[\d.]+[eE]-\d+")
_OTHER = re.compile(
    # Characters and words that PyTorch does not write: no operators between values, no comments, no other texts.
    r"[^\w\s.,:=()\[\]{}>\-\"]|\"\"\"|\w\"|[\w)\]}\"]\s*-(?!>)|-\s*-"
    r"|\b(?:lambda|not|and|or|elif|import|from|await|yield|async|with|try|del|global|nonlocal|match|assert|raise)\b"
    r"|^ *\S.*\b(?:if|else)\b",
    re.MULTILINE,
)
_ATTRIBUTES = re.compile(rf"(?:\.\s*\w+\s*){{{MAX_CHAIN},}}")
_BRACKET = re.compile(r"[(\[{]|([)\]}])(?=\s*([.(\[]?))")


@record(frozen=True, slots=True)
class Class:
    """One class of the archive."""

    name: str
    methods: dict[str, ast.FunctionDef]
    fields: dict[str, ast.expr]
    """Constants of the class."""


class Source:
    """The classes and functions of an archive by their names.

    Parameters
    ----------
    folder
        Where in the archive the code is, with a slash behind it.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._read = 0
        self._files: dict[str, dict[str, Class | ast.FunctionDef]] = {}

    def find(self, name: str) -> Class | ast.FunctionDef:
        """What a name such as `__torch__.torch.nn.functional.relu` stands for.

        Raises
        ------
        FileError
            There is nothing of that name, or its file is no source text of TorchScript.
        """
        module, _, last = name.rpartition(".")
        if module not in self._files:
            self._files[module] = self._parsed(f"{self._folder}{module.replace('.', '/')}.py")
        found = self._files[module].get(last)
        if found is None:
            raise FileError("a name that the code does not define", where=self._archive.path, got=excerpt(name))
        return found

    def _parsed(self, entry: str) -> dict[str, Class | ast.FunctionDef]:
        where = f"{self._archive.path}: {excerpt(entry)}"
        if entry not in self._archive.members:
            raise FileError("the code of a module is missing", where=self._archive.path, expected=excerpt(entry))
        self._read += self._archive.members[entry].size
        if self._read > MAX_BYTES:
            raise FileError("there is too much code", where=where, expected=f"at most {MAX_BYTES} bytes")
        try:
            text = bytes(self._archive.data(entry)).decode("utf-8")
        except UnicodeDecodeError:
            raise FileError("code that is not UTF-8", where=where) from None
        _check(text, where)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
            raise FileError("code that is no TorchScript", where=where, got=excerpt(problem)) from None
        found: dict[str, Class | ast.FunctionDef] = {}
        for item in tree.body:
            if isinstance(item, ast.FunctionDef):
                found[item.name] = item
            elif isinstance(item, ast.ClassDef):
                found[item.name] = _class(item)
        return found


def _class(item: ast.ClassDef) -> Class:
    methods = {d.name: d for d in item.body if isinstance(d, ast.FunctionDef)}
    named = [a for a in item.body if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)]
    fields = {a.target.id: a.value for a in named if a.value is not None and isinstance(a.target, ast.Name)}
    return Class(item.name, methods, fields)


def _check(text: str, where: str) -> None:
    """Refuse what is nested deeply, and what PyTorch does not write."""
    bare = _FLOAT.sub("0", _TEXT.sub('""', text))
    other = _OTHER.search(re.sub(r"\breturn\b", ",", bare))
    if other is None and '"""' in text:
        raise FileError("code that is no TorchScript", where=where, got='"""')
    if other is not None:
        line = f"line {bare.count(chr(10), 0, other.start()) + 1}"
        raise FileError("code that is no TorchScript", where=f"{where}: {line}", got=excerpt(other.group().strip()))
    chains = [0]
    for match in _BRACKET.finditer(bare):
        if match[1] is None:
            chains.append(0)
        else:
            # What follows a bracket that closes is applied to all that is before it.
            if len(chains) > 1:
                chains.pop()
            chains[-1] = chains[-1] + 1 if match[2] else 0
        if len(chains) > MAX_BRACKETS or chains[-1] > MAX_CHAIN:
            raise FileError("code that is nested too deeply", where=where, expected=f"at most {MAX_BRACKETS} levels")
    if _ATTRIBUTES.search(bare):
        raise FileError("code that is nested too deeply", where=where, expected=f"at most {MAX_CHAIN} attributes")
