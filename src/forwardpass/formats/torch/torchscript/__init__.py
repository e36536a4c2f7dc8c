"""TorchScript's archives, without PyTorch and without running what is in them.

An archive has the weights in pickles, which are read as those of weights are (`objects`), and the program as text in a
part of Python's grammar. The text is parsed (`source`) and followed as far as it says which operators are called with
what (`interpreter`, `numbers`, `operators`): that is the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import Error, FileError, InputError, UnsupportedError
from ....graph import Graph, TensorType
from ...archive import Archive, excerpt
from ..calls import Ref
from ..containers import Entries, root_of, unpickler
from ..emitter import Emitter
from ..inputs import Inputs
from ..objects import Tensor
from ..programs import finished
from .interpreter import Interpreter
from .objects import KNOWN_OBJECTS, Instance, ObjectUnpickler
from .operators import Operators
from .source import Source
from .values import Cell, Memory

__all__ = ["read_archive"]

_WRAPPED = ("bool", "int64", "float64")
"""Types of the constants without axes that stand for numbers of Python."""


def read_archive(archive: Archive, inputs: Inputs | None) -> Graph:
    """The graph of a TorchScript archive.

    Parameters
    ----------
    inputs
        The types of the inputs by the names of the arguments of `forward`, or in their order.

    Raises
    ------
    FileError
        The archive is damaged.
    InputError
        `inputs` are missing, or not those of the program.
    UnsupportedError
        Branches and loops that depend on the data, or operators that are not known here: all of them at once.
    """
    try:
        return _Reader(archive).read(inputs)
    except RecursionError:
        raise FileError("the program is nested too deeply", where=archive.path) from None


class _Reader:
    def __init__(self, archive: Archive) -> None:
        root = root_of(archive)
        if root is None:
            raise FileError("not a TorchScript archive", where=archive.path, expected="an entry data.pkl")
        self._where = archive.path
        self._source = Source(archive, f"{root}code/")
        self._weights = Entries(archive, root, "data/")
        self._others = Entries(archive, root, "constants/")
        self.module = self._pickled(archive, f"{root}data.pkl")
        constants = self._pickled(archive, f"{root}constants.pkl")
        if not isinstance(self.module, Instance) or not isinstance(constants, (tuple, list)):
            raise FileError("not a TorchScript archive", where=self._where, expected="an object and its constants")
        self._constants = constants
        self._kept = {id(t): t for t in constants}
        self._cells: dict[int, Any] = {}
        self._e = Emitter([])

    def _pickled(self, archive: Archive, entry: str) -> Any:
        if entry not in archive.members:
            raise FileError("not a TorchScript archive", where=self._where, expected=excerpt(entry))
        where = f"{self._where}: {excerpt(entry)}"
        return unpickler(archive.data(entry), where, kind=ObjectUnpickler, known=KNOWN_OBJECTS).load()

    def read(self, inputs: Inputs | None) -> Graph:
        operators = Operators(self._e, self._where)
        interpreter = Interpreter(self._source, operators, self._constants, self._tensor, self._where)
        # What has several forms is numbered; the first takes tensors.
        method = next((m for m in ("forward", "forward__0") if interpreter.method_of(self.module, m) is not None), "")
        code = interpreter.method_of(self.module, method)
        if code is None:
            raise UnsupportedError("a module without forward", where=self._where, got=excerpt(self.module.kind))
        names = [a.arg for a in code.args.args][1:]
        optional = names[len(names) - len(code.args.defaults) :] if code.args.defaults else []
        given: dict[str, Any] = {}
        for name, found in self._types(names, optional, inputs).items():
            label = self._e.fresh(name)
            self._e.add_input(label, found)
            given[name] = Cell(Ref(label))
        try:
            made = interpreter.method(self.module, method, [], given)
        except Error:
            operators.finish()
            raise
        operators.finish()
        outputs = [operators.plain(v) for v in _flat(made)]
        values = [operators.read(v) if isinstance(v, Cell) else v for v in outputs]
        return finished(self._e, values, self.module.kind.rpartition(".")[2])

    def _types(self, names: list[str], optional: list[str], inputs: Inputs | None) -> dict[str, TensorType]:
        needed = [n for n in names if n not in optional]
        if inputs is None:
            name = (needed or names or ["x"])[0]
            hint = f"inputs={{{name!r}: ('N', 3, 224, 224)}}, or on the command line --shape {name}=N,3,224,224"
            message = "a TorchScript archive does not say the shapes of its inputs"
            raise InputError(message, where=self._where, expected=f"inputs for {', '.join(names)}", hint=hint)
        found = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs))
        extra = len(inputs) - len(found)
        unknown = [n for n in found if n not in names]
        missing = [n for n in needed if n not in found]
        if unknown or missing or extra:
            got = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else str(len(inputs))
            raise InputError("not the inputs of the program", where=self._where, expected=", ".join(names), got=got)
        return found

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        """A parameter or a constant as a value of the graph; an integer of the code as that."""
        if id(tensor) not in self._cells:
            kept = id(tensor) in self._kept
            array = (self._others if kept else self._weights).array(tensor, path)
            if kept and array.ndim == 0 and array.dtype.name in _WRAPPED:
                self._cells[id(tensor)] = array.item()
            else:
                name = self._e.add_constant(path, array)
                number = array.item() if array.ndim == 0 and array.dtype.kind in "bif" else None
                self._cells[id(tensor)] = Cell(Ref(name), Memory(fixed=True), number)
        return self._cells[id(tensor)]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [a for v in value for a in _flat(v)]
    if isinstance(value, dict):
        return [a for v in value.values() for a in _flat(v)]
    return [value]
