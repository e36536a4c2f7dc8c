"""Regular expressions in RE2's syntax as those of Python's `re`, for matches of whole texts.

RE2 has no look-around, no references to groups and no possessive repetition. It has names of Unicode classes, POSIX
classes, quotation, and flags that hold from where they stand; the classes of Perl are of ASCII. Whether the shortest
or the longest match is preferred makes no difference where the whole text has to match. `re` goes back and tries again
where RE2 tries everything at once, so nested repetitions can take it long.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

from ..errors import GraphError, UnsupportedError

__all__ = ["compiled"]

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t-\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PERL = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_CONTROLS = {"a": r"\x07", "f": r"\x0c", "t": r"\t", "n": r"\n", "r": r"\r", "v": r"\x0b"}
_REPEAT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_GROUP = re.compile(r"\?(?:P?<(\w+)>|([imsU]*(?:-[imsU]+)?)([:)]))", re.ASCII)
_LARGEST_REPEAT = 1000


def _spans(inside: list[bool]) -> str:
    """Code points as ranges of a character class."""
    edges = [k for k in range(len(inside)) if inside[k] != (k > 0 and inside[k - 1])] + [len(inside)]
    return "".join(f"\\U{a:08x}-\\U{b - 1:08x}" for a, b in zip(edges[::2], edges[1::2]))


@cache
def _category(name: str) -> str:
    """The ranges of a general category of Unicode."""
    if name == "Any":
        return r"\x00-\U0010ffff"
    inside = [unicodedata.category(chr(k)).startswith(name) for k in range(sys.maxunicode + 1)]
    if not any(inside):
        raise UnsupportedError("a regular expression names an unknown Unicode class", expected="a category", got=name)
    return _spans(inside)


@cache
def _complement(ranges: str) -> str:
    """The ranges of what a class does not hold."""
    held = re.compile(f"[{ranges}]")
    return _spans([held.match(chr(k)) is None for k in range(sys.maxunicode + 1)])


class _Translation:
    """One pass over an expression, from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.multiline = [False]
        self.opened: list[list[str]] = [[]]  # per group, the groups that flags within it have opened

    def error(self, what: str) -> GraphError:
        return GraphError(
            f"attribute 'pattern' is wrong: {what}", expected="a regular expression of RE2", got=repr(self.text)
        )

    def run(self) -> str:
        made: list[str] = []
        repeatable = False
        while self.at < len(self.text):
            piece, repeatable = self._next(repeatable)
            made.append(piece)
        if len(self.opened) > 1:
            raise self.error("missing )")
        return "".join(made) + ")" * len(self.opened[0])

    def _next(self, repeatable: bool) -> tuple[str, bool]:
        """What stands for the next part, and whether a repetition may follow."""
        c = self.text[self.at]
        found = _REPEAT.match(self.text, self.at) if c == "{" else None
        if c in "*+?" or found is not None:
            if not repeatable:
                raise self.error("nothing to repeat, or a repetition of a repetition")
            return self._repetition(found), False
        self.at += 1
        if c == "(":
            return self._open()
        if c == ")":
            return self._close(), True
        if c == "[":
            return self._bracket(), True
        if c == "\\":
            return self._escape()
        if c == "|":
            # Flags hold beyond it, but what they stand before must not take in the alternative.
            flags = self.opened[-1]
            return ")" * len(flags) + c + "".join(flags), False
        if c == "^":
            return c, True
        if c == "$":
            return ("$" if self.multiline[-1] else r"\Z"), True
        return (c if c == "." else re.escape(c)), True

    def _repetition(self, found: re.Match[str] | None) -> str:
        made = self.text[self.at] if found is None else found.group()
        if found is not None:
            low, high = int(found[1]), int(found[3] or found[1])
            if max(low, high) > _LARGEST_REPEAT or high < low:
                raise self.error(f"bad repetition {made}")
        self.at += len(made)
        if self.text.startswith("?", self.at):
            self.at += 1
            made += "?"
        return made

    def _open(self) -> tuple[str, bool]:
        if not self.text.startswith("?", self.at):
            self.opened.append([])
            self.multiline.append(self.multiline[-1])
            return "(", False
        found = _GROUP.match(self.text, self.at)
        if found is None:
            raise self.error("an unknown kind of group")
        self.at = found.end()
        name, flags, end = found.groups()
        if name is not None:
            self.opened.append([])
            self.multiline.append(self.multiline[-1])
            return f"(?P<{name}>", False
        return self._flags(flags, inside=end == ":"), False

    def _flags(self, flags: str, *, inside: bool) -> str:
        """A group with flags, or flags from here to the end of the group around them."""
        on, _, off = flags.partition("-")
        multiline = ("m" in on or self.multiline[-1]) and "m" not in off
        on, off = (part.replace("U", "") for part in (on, off))  # which match is preferred
        made = f"(?{on}{'-' + off if off else ''}:"
        if inside:
            self.opened.append([])
            self.multiline.append(multiline)
        else:
            self.opened[-1].append(made)
            self.multiline[-1] = multiline
        return made

    def _close(self) -> str:
        if len(self.opened) == 1:
            raise self.error("unexpected )")
        self.multiline.pop()
        return ")" * (len(self.opened.pop()) + 1)

    def _escape(self) -> tuple[str, bool]:
        if self.at == len(self.text):
            raise self.error("trailing backslash")
        c = self.text[self.at]
        if c in "bBAz":
            self.at += 1
            return {"b": r"(?a:\b)", "B": r"(?!(?a:\b))", "A": r"\A", "z": r"\Z"}[c], True
        if c == "Q":
            end = self.text.find("\\E", self.at)
            quoted = self.text[self.at + 1 : end if end >= 0 else None]
            self.at = end + 2 if end >= 0 else len(self.text)
            return re.escape(quoted), bool(quoted)
        members, negated = self._members()
        return f"[{'^' if negated else ''}{members}]", True

    def _members(self) -> tuple[str, bool]:
        """What an escape means in a class, and whether it means all but that. `at` is behind the backslash."""
        c = self.text[self.at]
        self.at += 1
        if c.lower() in _PERL:
            return _PERL[c.lower()], c.isupper()
        if c in "pP":
            if self.text.startswith("{", self.at):
                name = self._braced()
            else:
                name = self.text[self.at : self.at + 1]
                self.at += 1
            return _category(name.lstrip("^")), (c == "P") != name.startswith("^")
        if c in _CONTROLS:
            return _CONTROLS[c], False
        if c == "x":
            if self.text.startswith("{", self.at):
                digits = self._braced()
            else:
                digits = self.text[self.at : self.at + 2]
                self.at += 2
            return self._code(digits, 16), False
        if c in "01234567":
            octal = re.compile("[0-7]{1,3}").match(self.text, self.at - 1)
            if octal is None or (c != "0" and len(octal.group()) == 1):
                raise self.error("references to groups")
            self.at = octal.end()
            return self._code(octal.group(), 8), False
        if c.isascii() and c.isalnum():
            raise self.error(f"unknown escape \\{c}")
        return re.escape(c), False

    def _braced(self) -> str:
        end = self.text.find("}", self.at)
        if end < 0:
            raise self.error("missing }")
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        return inner

    def _code(self, digits: str, base: int) -> str:
        try:
            return f"\\U{int(digits, base):08x}"
        except ValueError:
            raise self.error(f"bad character code {digits!r}") from None

    def _bracket(self) -> str:
        """A character class; `at` is behind its bracket."""
        negated = self.text.startswith("^", self.at)
        self.at += negated
        made: list[str] = []
        first = True
        while first or not self.text.startswith("]", self.at):
            first = False
            if self.at >= len(self.text):
                raise self.error("missing ]")
            made.append(self._member())
        self.at += 1
        return f"[{'^' if negated else ''}{''.join(made)}]"

    def _member(self) -> str:
        posix = re.compile(r"\[:(\^?)(\w+):\]").match(self.text, self.at)
        if posix is not None:
            if posix[2] not in _POSIX:
                raise self.error(f"unknown class {posix.group()}")
            self.at = posix.end()
            return _complement(_POSIX[posix[2]]) if posix[1] else _POSIX[posix[2]]
        c = self.text[self.at]
        self.at += 1
        if c == "\\":
            if self.at == len(self.text):
                raise self.error("trailing backslash")
            members, negated = self._members()
            return _complement(members) if negated else members
        return c if c == "-" else re.escape(c)


def compiled(text: str) -> re.Pattern[str]:
    """An expression of RE2, compiled for `fullmatch`.

    Raises
    ------
    GraphError
        It is none.
    UnsupportedError
        It names a script of Unicode.
    """
    translation = _Translation(text)
    try:
        return re.compile(translation.run())
    except (re.error, OverflowError, RecursionError) as error:
        raise translation.error(str(error)) from error
