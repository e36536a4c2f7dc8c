"""TorchScript's code read as a graph: everything but the operators on tensors happens while it is read.

Calls are followed, branches are taken and loops are run where what they depend on is known: numbers, attributes, ranks,
and the sizes that are fixed. What depends on a tensor's values is not.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from typing import Any

from ....errors import FileError, UnsupportedError
from ...archive import excerpt
from ..objects import Tensor
from .objects import Instance
from .operators import Operators
from .source import Class, Source
from .values import UNKNOWN

__all__ = ["Interpreter"]

MAX_STEPS = 400_000
MAX_CALLS = 60
_NEXT = object()
"""A block that does not return."""
_NAMES = {"inf": math.inf, "nan": math.nan}
_SPACES = frozenset({"torch", "ops", "__torch__", "CONSTANTS"})
_SAID = frozenset({"ops.prim.RaiseException", "torch.warn", "torch.format"})

Env = dict[str, Any]


class Interpreter:
    """Reads functions of an archive.

    Parameters
    ----------
    constants
        The tensors that the code calls `CONSTANTS.c0`, ...
    tensor
        Makes a tensor of the graph of one of the archive.
    """

    def __init__(
        self,
        source: Source,
        operators: Operators,
        constants: Sequence[Any],
        tensor: Callable[[Tensor, str], Any],
        where: str,
    ) -> None:
        self._source, self._operators, self._constants = source, operators, constants
        self._tensor, self._where = tensor, where
        self._steps = self._calls = 0
        self._paths: dict[int, str] = {}
        operators.count = self._count

    def method(self, owner: Instance, name: str, given: Sequence[Any], named: Env) -> Any:
        """What a method of an object returns."""
        kind = self._class(owner)
        if name not in kind.methods:
            raise self._error("a method that the class does not have", f"{owner.kind}.{name}")
        return self.function(kind.methods[name], [owner, *given], named)

    def method_of(self, owner: Instance, name: str) -> ast.FunctionDef | None:
        """The code of a method, None where there is none."""
        return self._class(owner).methods.get(name)

    def function(self, code: ast.FunctionDef, given: Sequence[Any], named: Env) -> Any:
        """What a function returns."""
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise self._error("functions that call each other too deeply", f"more than {MAX_CALLS}")
        names = [a.arg for a in code.args.args]
        defaults = dict(zip(reversed(names), reversed(code.args.defaults)))
        env = {**dict(zip(names, given)), **named}
        for name in names:
            if name not in env:
                if name not in defaults:
                    raise self._error("a call without an argument", f"{code.name}: {name}")
                env[name] = self._value(defaults[name], {})
        result = self._block(code.body, env)
        self._calls -= 1
        return None if result is _NEXT else result

    def attribute(self, owner: Any, name: str) -> Any:
        """An attribute of an object, or a constant of its class."""
        if not isinstance(owner, Instance):
            raise self._error("an attribute of what is no object", name)
        if name in owner.attributes:
            path = f"{self._paths.get(id(owner), '')}{name}"
            return self._held(owner.attributes[name], path)
        fields = self._class(owner).fields
        if name not in fields:
            raise self._error("an attribute that is not there", f"{owner.kind}.{name}")
        return self._value(fields[name], {})

    def _held(self, value: Any, path: str) -> Any:
        """What the archive's objects hold, as the code calculates with it."""
        self._count()
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, Instance):
            self._paths.setdefault(id(value), f"{path}.")
        elif isinstance(value, (list, tuple)):
            return [self._held(v, f"{path}.{k}") for k, v in enumerate(value)]
        elif isinstance(value, dict):
            return {k: self._held(v, f"{path}.{k}") for k, v in value.items()}
        return value

    def _class(self, owner: Instance) -> Class:
        found = self._source.find(owner.kind)
        if not isinstance(found, Class):
            raise self._error("an object of what is no class", owner.kind)
        return found

    # ---- statements

    def _block(self, body: Sequence[ast.stmt], env: Env) -> Any:
        for item in body:
            result = self._statement(item, env)
            if result is not _NEXT:
                return result
        return _NEXT

    def _statement(self, item: ast.stmt, env: Env) -> Any:
        self._count()
        if isinstance(item, ast.Return):
            return None if item.value is None else self._value(item.value, env)
        if isinstance(item, ast.If):
            return self._block(self._branch(item, self._value(item.test, env)), env)
        if isinstance(item, (ast.For, ast.While)):
            return self._loop(item, env)
        if isinstance(item, ast.Expr):
            self._value(item.value, env)
        elif isinstance(item, ast.AnnAssign):
            if item.value is not None:
                self._assign(item.target, self._value(item.value, env), env)
        elif isinstance(item, ast.Assign) and len(item.targets) == 1:
            self._assign(item.targets[0], self._value(item.value, env), env)
        elif not isinstance(item, ast.Pass):
            raise self._refuse("a statement of TorchScript that is not known", type(item).__name__)
        return _NEXT

    def _assign(self, target: ast.expr, value: Any, env: Env) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = [value] * len(target.elts) if value is UNKNOWN else value
            if not isinstance(values, list) or len(values) != len(target.elts):
                raise self._error("a value of so many parts was expected", str(len(target.elts)))
            for part, one in zip(target.elts, values):
                self._assign(part, one, env)
        elif isinstance(target, ast.Attribute):
            raise self._refuse("a module that changes its attributes", target.attr)
        else:
            raise self._refuse("a statement of TorchScript that is not known", "an assignment")

    def _branch(self, item: ast.If, test: Any) -> Sequence[ast.stmt]:
        known = self._known(test)
        if known is not None:
            return item.body if known else item.orelse
        # What would only complain is taken not to.
        if _complains(item.body):
            return item.orelse
        if _complains(item.orelse):
            return item.body
        hint = (
            "give sizes that are fixed as inputs=..., torch.jit.trace the module, or give from_torch the module itself"
        )
        raise self._refuse("branches that depend on what is known only when the model runs", "if", hint=hint)

    def _loop(self, item: ast.For | ast.While, env: Env) -> Any:
        if isinstance(item, ast.For):
            values = self._value(item.iter, env)
            if not isinstance(values, (list, range)):
                raise self._refuse("loops that depend on what is known only when the model runs", "for")
            for value in values:
                self._count()
                self._assign(item.target, value, env)
                result = self._block(item.body, env)
                if result is not _NEXT:
                    return result
            return _NEXT
        while True:
            known = self._known(self._value(item.test, env))
            if known is None:
                raise self._refuse("loops that depend on what is known only when the model runs", "while")
            if not known:
                return _NEXT
            result = self._block(item.body, env)
            if result is not _NEXT:
                return result

    def _known(self, test: Any) -> bool | None:
        test = self._operators.plain(test)
        if test is UNKNOWN:
            self._operators.complain()
        return bool(test) if test is None or isinstance(test, (bool, int, float, str, list, dict)) else None

    # ---- expressions

    def _value(self, item: ast.expr, env: Env) -> Any:
        self._count()
        if isinstance(item, ast.Constant) and (item.value is None or isinstance(item.value, (bool, int, float, str))):
            return item.value
        if isinstance(item, ast.Name):
            found = env.get(item.id, _NAMES.get(item.id, _NEXT))
            if found is _NEXT:
                raise self._error("a name without a value", item.id)
            return found
        if isinstance(item, (ast.List, ast.Tuple)):
            return [self._value(part, env) for part in item.elts]
        if isinstance(item, ast.Dict):
            return {self._key(k, env): self._value(v, env) for k, v in zip(item.keys, item.values)}
        if isinstance(item, ast.Call):
            return self._called(item, env)
        if isinstance(item, ast.Attribute):
            return self._attribute(item, env)
        if isinstance(item, ast.Subscript):
            return self._operators.call("__getitem__", [self._value(item.value, env), self._value(item.slice, env)], {})
        if isinstance(item, ast.UnaryOp) and isinstance(item.op, ast.USub):
            value = self._value(item.operand, env)
            if isinstance(value, (int, float)):
                return -value
        raise self._refuse("an expression of TorchScript that is not known", type(item).__name__)

    def _key(self, item: ast.expr | None, env: Env) -> Any:
        key = None if item is None else self._value(item, env)
        if not isinstance(key, (str, int)):
            raise self._refuse("a dict with keys other than text and integers", type(key).__name__)
        return key

    def _attribute(self, item: ast.Attribute, env: Env) -> Any:
        path = _path(item, env)
        if path.startswith("CONSTANTS."):
            index = path.removeprefix("CONSTANTS.c")
            if not index.isdecimal() or int(index) >= len(self._constants):
                raise self._error("a constant that is not there", path)
            return self._held(self._constants[int(index)], f"constant_{index}")
        if path.startswith("__torch__."):
            return self._source.find(path)
        if path:
            raise self._refuse("an expression of TorchScript that is not known", path)
        return self.attribute(self._value(item.value, env), item.attr)

    def _called(self, item: ast.Call, env: Env) -> Any:
        path = _path(item.func, env)
        if path == "isinstance":
            raise self._refuse("a question about a type", path)
        if path in ("annotate", "unchecked_cast", "uninitialized"):  # the first argument is a type
            return self._value(item.args[1], env) if len(item.args) == 2 else None
        given = [self._value(a, env) for a in item.args]
        named = {k.arg: self._value(k.value, env) for k in item.keywords if k.arg is not None}
        if path == "getattr" and len(given) == 2 and isinstance(given[1], str):
            return self.attribute(given[0], given[1])
        if path in ("int", "float", "bool", "str", "len", "range"):
            return self._operators.call(path, given, named)
        if path.startswith(("torch.", "ops.")):
            name = path.removeprefix("torch.").removeprefix("ops.").removeprefix("aten.")
            return self._operators.call(name, given, named)
        if not path and isinstance(item.func, ast.Attribute):
            owner = self._value(item.func.value, env)
            if not isinstance(owner, Instance):
                raise self._error("a method of what is no object", item.func.attr)
            return self.method(owner, item.func.attr, given, named)
        found = self._source.find(path) if path.startswith("__torch__.") else self._value(item.func, env)
        if isinstance(found, ast.FunctionDef):
            return self.function(found, given, named)
        raise self._refuse("code that makes an object", getattr(found, "name", path))

    # ---- errors

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self._error("the program is too long", f"more than {MAX_STEPS} steps")

    def _error(self, message: str, got: str) -> FileError:
        return FileError(message, where=self._where, got=excerpt(got))

    def _refuse(self, message: str, got: str, hint: str = "") -> UnsupportedError:
        return UnsupportedError(message, where=self._where, got=excerpt(got), hint=hint)


def _path(item: ast.expr, env: Env) -> str:
    """The dotted name that begins with a name of TorchScript itself, or ""."""
    parts: list[str] = []
    while isinstance(item, ast.Attribute):
        parts.append(item.attr)
        item = item.value
    if not isinstance(item, ast.Name) or item.id in env or (parts and item.id not in _SPACES):
        return ""
    return ".".join([item.id, *reversed(parts)])


def _complains(block: Sequence[ast.stmt]) -> bool:
    """Whether a block ends with an error, or does nothing but say something."""
    said = [s for s in block if isinstance(s, (ast.Expr, ast.Assign)) and isinstance(s.value, ast.Call)]
    paths = [_path(s.value.func, {}) for s in said if isinstance(s.value, ast.Call)]
    if "ops.prim.RaiseException" in paths:
        return True
    return len(said) == len(block) and bool(block) and all(p in _SAID for p in paths)
