"""What the passes did, and what they could not do and why."""

from __future__ import annotations

from collections.abc import Iterator

from ..records import field, record

__all__ = ["Entry", "Log"]


@record(frozen=True, slots=True)
class Entry:
    """One decision of a rewrite.

    Attributes
    ----------
    pass_name
        The entry of `PIPELINE`.
    node
        The label of the node that it looked at.
    fired
        Whether it changed the graph.
    detail
        What it made of the node, or why it declined.
    """

    pass_name: str
    node: str
    fired: bool
    detail: str

    def __str__(self) -> str:
        return f"{'+' if self.fired else '-'} {self.node}: {self.detail}"


@record(slots=True)
class Log:
    """The decisions of all passes, in order."""

    entries: list[Entry] = field(default_factory=list)

    def fired(self, pass_name: str | None = None) -> list[Entry]:
        """The rewrites that changed the graph."""
        return [e for e in self.entries if e.fired and pass_name in (None, e.pass_name)]

    def declined(self, pass_name: str | None = None) -> list[Entry]:
        """The rewrites that met their pattern and could not be applied."""
        return [e for e in self.entries if not e.fired and pass_name in (None, e.pass_name)]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __str__(self) -> str:
        lines: list[str] = []
        current = ""
        for entry in self.entries:
            if entry.pass_name != current:
                current = entry.pass_name
                lines.append(current)
            lines.append(f"  {entry}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"
