"""The page of the command line names every command."""

from __future__ import annotations

import re

from pages import ROOT

from forwardpass.cli import COMMANDS

PAGE = ROOT / "docs" / "command-line.md"


def test_every_command_is_in_the_table() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().split("What all")[0], re.M)) == COMMANDS
