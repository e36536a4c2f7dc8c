"""Completion scripts for bash, zsh and fish, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["SHELLS", "Command", "Option", "describe"]


@dataclass(frozen=True)
class Option:
    """An option: its names, what it is for, whether a value follows, and which values there are."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A sub-command; `choices` are those of its argument, empty where it takes files."""

    name: str
    help: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]


def describe(parser: argparse.ArgumentParser) -> list[Command]:
    """The commands of a parser, the parser's own options as the command ""."""
    found = [Command("", "", tuple(_options(parser)), ())]
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {a.dest: a.help or "" for a in action._choices_actions}
        for name, sub in action.choices.items():
            values = [tuple(map(str, a.choices)) for a in sub._actions if not a.option_strings and a.choices]
            found.append(Command(name, helps.get(name, ""), tuple(_options(sub)), values[0] if values else ()))
    return found


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            choices = tuple(map(str, action.choices or ()))
            yield Option(tuple(action.option_strings), action.help or "", action.nargs != 0, choices)


def _words(commands: Sequence[str]) -> str:
    return " ".join(commands)


def _bash(commands: list[Command]) -> str:
    top, subs = commands[0], commands[1:]
    cases, values = [], []
    for c in subs:
        names = [n for o in c.options for n in o.names]
        cases.append(f'    {c.name}) options="{_words(names)}"; words="{_words(c.choices)}" ;;')
        for o in c.options:
            if o.takes_value:
                keys = "|".join(f"{c.name}:{n}" for n in o.names)
                reply = f'COMPREPLY=($(compgen -W "{_words(o.choices)}" -- "$word"))' if o.choices else "_files"
                values.append(f"    {keys}) {reply.replace('_files', '_forwardpass_files')}; return ;;")
    first = _words([*(c.name for c in subs), *(n for o in top.options for n in o.names)])
    return "\n".join(
        [
            '_forwardpass_files() { compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$word")); }',
            "_forwardpass() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
            '  local options="" words=""',
            "  COMPREPLY=()",
            f'  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{first}" -- "$word")); return; fi',
            '  case "$command:$before" in',
            *values,
            "  esac",
            '  case "$command" in',
            *cases,
            "  esac",
            '  if [[ "$word" == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$word"))',
            '  elif [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "  else _forwardpass_files; fi",
            "}",
            "complete -F _forwardpass forwardpass",
        ]
    )


def _quoted(text: str) -> str:
    """For the inside of single quotes in zsh and fish, where brackets and colons of a specification mean something."""
    plain = text.replace("'", "").replace("[", "(").replace("]", ")").replace(":", ";").replace("\\", "")
    return " ".join(plain.replace("%%", "%").split())


def _zsh(commands: list[Command]) -> str:
    top, subs = commands[0], commands[1:]

    def specification(o: Option) -> list[str]:
        value = ""
        if o.takes_value:
            value = f":value:({_words(o.choices)})" if o.choices else ":value:_files"
        return [f"      '{n}[{_quoted(o.help)}]{value}'" for n in o.names]

    cases = []
    for c in subs:
        rest = f"'*:value:({_words(c.choices)})'" if c.choices else "'*:file:_files'"
        lines = [s for o in c.options for s in specification(o)] + [f"      {rest}"]
        cases += [f"    {c.name}) _arguments \\", " \\\n".join(lines), "      ;;"]
    listed = " ".join(f"'{c.name}:{_quoted(c.help)}'" for c in subs)
    own = " ".join(n for o in top.options for n in o.names)
    return "\n".join(
        [
            "#compdef forwardpass",
            "_forwardpass() {",
            "  local -a commands",
            f"  commands=({listed})",
            "  if (( CURRENT == 2 )); then",
            "    _describe command commands",
            f"    compadd -- {own}",
            "    return",
            "  fi",
            '  local command="${words[2]}"',
            "  shift words",
            "  (( CURRENT-- ))",
            '  case "$command" in',
            *cases,
            "  esac",
            "}",
            'if [ "$funcstack[1]" = _forwardpass ]; then _forwardpass "$@"',
            "else compdef _forwardpass forwardpass; fi",
        ]
    )


def _fish(commands: list[Command]) -> str:
    def lines(condition: str, options: Sequence[Option]) -> Iterator[str]:
        for o in options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in o.names)
            value = (f" -x -a '{_words(o.choices)}'" if o.choices else " -r -F") if o.takes_value else ""
            yield f"complete -c forwardpass -n '{condition}' {names}{value} -d '{_quoted(o.help)}'"

    found = ["complete -c forwardpass -f", *lines("__fish_use_subcommand", commands[0].options)]
    for c in commands[1:]:
        found.append(f"complete -c forwardpass -n __fish_use_subcommand -a {c.name} -d '{_quoted(c.help)}'")
        condition = f"__fish_seen_subcommand_from {c.name}"
        more = f"-a '{_words(c.choices)}'" if c.choices else "-F"
        found += [f"complete -c forwardpass -n '{condition}' {more}", *lines(condition, c.options)]
    return "\n".join(found)


SHELLS: dict[str, Callable[[list[Command]], str]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
