"""Pickles without code: an interpreter of the opcodes that weights need, over values of a few plain kinds.

A pickle is a program for a stack machine that may call any function it can name. Here it can make numbers, text, lists,
tuples and dicts, and name what a table allows; a name that is not in the table ends the reading before anything
happens. Every length is held against the bytes that are there, and the number of steps is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import FileError
from ...records import record
from ..archive import excerpt

__all__ = ["MAX_STEPS", "Global", "Unpickler"]

MAX_STEPS = 2_000_000
"""Opcodes, and elements that calls copy, in one file. A tensor takes about 30."""
MAX_NAME = 500
MAX_INTEGER_BYTES = 16
_KEY = 1 << 31

Make = Callable[..., Any]


@record(frozen=True, slots=True)
class Global:
    """A name that the table allows.

    Attributes
    ----------
    name
        Module and name.
    value
        What it stands for; a callable is what may be called.
    """

    name: str
    value: Any


_MARK = object()
_CONSTANTS: dict[int, Any] = {ord("N"): None, 0x88: True, 0x89: False}
_EMPTY: dict[int, Callable[[], Any]] = {ord("}"): dict, ord("]"): list, ord(")"): tuple}
_UNSIGNED = {ord("K"): 1, ord("M"): 2}
_TEXTS = {ord("X"): 4, 0x8C: 1, 0x8D: 8}
_BYTES = {ord("B"): 4, ord("C"): 1, 0x8E: 8}
_STRINGS = {ord("T"): 4, ord("U"): 1}
_LONGS = {0x8A: 1, 0x8B: 4}
_PUTS = {ord("q"): 1, ord("r"): 4}
_GETS = {ord("h"): 1, ord("j"): 4}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}


class Unpickler:
    """Reads the pickles that follow each other in some bytes.

    Parameters
    ----------
    data
        The bytes.
    where
        How messages name them.
    known
        Module and name, joined by a dot -> what it stands for.
    persistent
        Called for references to what is stored outside the pickle.
    """

    def __init__(
        self, data: memoryview, where: str, known: Mapping[str, Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.data, self.where, self.known, self.persistent = data, where, known, persistent
        self.at = 0
        self.steps = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def error(self, message: str, **fields: str) -> FileError:
        """What to raise at the present place."""
        return FileError(message, where=f"{self.where}: pickle, byte {self.at}", **fields)

    def count(self, steps: int) -> None:
        """Count steps against the limit."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise self.error("the pickle is too long", expected=f"at most {MAX_STEPS} steps")

    def load(self) -> Any:
        """The value of the next pickle."""
        self._stack, self._memo = [], {}
        while True:
            self.count(1)
            code = self._take(1)[0]
            if code == 0x2E:  # STOP
                value = self._pop()
                if self._stack:
                    raise self.error("damaged pickle: values are left over")
                return value
            self._step(code)

    # ---- bytes

    def _take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            left = len(self.data) - self.at
            raise self.error("the pickle is cut short", expected=f"{size} bytes", got=str(left))
        self.at += size
        return self.data[self.at - size : self.at]

    def _unsigned(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> str:
        window = bytes(self.data[self.at : self.at + MAX_NAME])
        end = window.find(b"\n")
        if end < 0:
            raise self.error("damaged pickle: a line does not end")
        self.at += end + 1
        return self._decoded(window[:end])

    def _decoded(self, raw: bytes) -> str:
        try:
            # Text from Python may hold halves of surrogate pairs; no name of a weight does.
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("text is not UTF-8", got=excerpt(raw[:40])) from None

    # ---- stack

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise self.error("damaged pickle: the stack is empty")
        return self._stack.pop()

    def _last(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise self.error("damaged pickle: the stack is empty")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        at = len(stack) - 1
        while at >= 0 and stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise self.error("damaged pickle: a mark is missing")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    # ---- opcodes

    def _step(self, code: int) -> None:
        push = self._stack.append
        if code in _GETS:
            push(self._recall(self._unsigned(_GETS[code])))
        elif code in _PUTS:
            self._memo[self._unsigned(_PUTS[code])] = self._last()
        elif code == 0x94:  # MEMOIZE
            self._memo[len(self._memo)] = self._last()
        elif code == 0x28:  # MARK
            push(_MARK)
        elif code in _CONSTANTS:
            push(_CONSTANTS[code])
        elif code in _EMPTY:
            push(_EMPTY[code]())
        elif code in _TUPLES:
            items = [self._pop() for _ in range(_TUPLES[code])]
            push(tuple(reversed(items)))
        elif code == 0x74:  # TUPLE
            push(tuple(self._since_mark()))
        elif not self._number(code) and not self._text(code) and not self._structure(code):
            raise self.error("an opcode that weights do not need", got=f"0x{code:02x}")

    def _recall(self, index: int) -> Any:
        if index not in self._memo:
            raise self.error("damaged pickle: nothing is memorised", got=str(index))
        return self._memo[index]

    def _number(self, code: int) -> bool:
        push = self._stack.append
        if code in _UNSIGNED:
            push(self._unsigned(_UNSIGNED[code]))
        elif code == 0x4A:  # BININT
            push(int.from_bytes(self._take(4), "little", signed=True))
        elif code in _LONGS:
            size = self._unsigned(_LONGS[code])
            if size > MAX_INTEGER_BYTES:
                raise self.error("an integer is too long", expected=f"<= {MAX_INTEGER_BYTES} bytes", got=str(size))
            push(int.from_bytes(self._take(size), "little", signed=True))
        elif code == 0x47:  # BINFLOAT
            push(struct.unpack(">d", self._take(8))[0])
        else:
            return False
        return True

    def _text(self, code: int) -> bool:
        push = self._stack.append
        if code in _TEXTS:
            push(self._decoded(bytes(self._take(self._unsigned(_TEXTS[code])))))
        elif code in _STRINGS:  # what text is in the files of Python 2
            push(self._decoded(bytes(self._take(self._unsigned(_STRINGS[code])))))
        elif code in _BYTES:
            push(bytes(self._take(self._unsigned(_BYTES[code]))))
        else:
            return False
        return True

    def _structure(self, code: int) -> bool:
        push = self._stack.append
        if code == 0x63:  # GLOBAL
            module = self._line()
            push(self._global(module, self._line()))
        elif code == 0x93:  # STACK_GLOBAL
            name, module = self._pop(), self._pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise self.error("damaged pickle: a name is no text")
            push(self._global(module, name))
        elif code == 0x52:  # REDUCE
            push(self._call())
        elif code == 0x51:  # BINPERSID
            push(self.persistent(self._pop()))
        elif code == 0x62:  # BUILD
            state = self._pop()
            if not isinstance(self._last(), dict) or not isinstance(state, dict):
                raise self.error("the pickle sets the state of an object", expected="attributes of a dict alone")
        elif code in (0x73, 0x75):  # SETITEM, SETITEMS
            items = self._since_mark() if code == 0x75 else [self._pop(), self._pop()][::-1]
            self._set(items)
        elif code in (0x61, 0x65):  # APPEND, APPENDS
            items = self._since_mark() if code == 0x65 else [self._pop()]
            if not isinstance(self._last(), list):
                raise self.error("damaged pickle: not a list")
            self._last().extend(items)
        elif code == 0x80:  # PROTO
            if self._unsigned(1) > 5:
                raise self.error("an unknown protocol of pickle", expected="at most 5")
        elif code == 0x95:  # FRAME
            self._unsigned(8)
        elif code == 0x30:  # POP
            self._stack.pop() if self._stack else self._pop()
        else:
            return False
        return True

    def _set(self, items: list[Any]) -> None:
        target = self._last()
        if not isinstance(target, dict) or len(items) % 2:
            raise self.error("damaged pickle: not a dict, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            self.put(target, key, value)

    def put(self, target: dict[Any, Any], key: Any, value: Any) -> None:
        """Set an item whose key is text or a small integer, which nobody can make collide."""
        if type(key) is not str and not (type(key) is int and -_KEY <= key < _KEY):
            raise self.error("a key of a kind that weights do not have", expected="text or integers")
        target[key] = value

    def _global(self, module: str, name: str) -> Global:
        full = f"{module}.{name}"
        if full not in self.known:
            raise self.error(
                f"the pickle names {excerpt(repr(full))}, which is not allowed",
                expected="tensors, numbers, text, lists, tuples and dicts alone",
                hint="save the weights alone: torch.save(model.state_dict(), path)",
            )
        return Global(full, self.known[full])

    def _call(self) -> Any:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not callable(function.value) or not isinstance(arguments, tuple):
            raise self.error("the pickle calls what is no function")
        self.count(len(arguments))
        return function.value(self, *arguments) if len(arguments) <= 8 else self._wrong(function)

    def _wrong(self, function: Global) -> Any:
        raise self.error(f"wrong arguments of {function.name!r}")
