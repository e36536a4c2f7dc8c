"""`forwardpass completion`, the parser as a whole, and what all commands have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import CNN, as_json, called

from forwardpass.cli import COMMANDS, make_parser
from forwardpass.cli.shells import SHELLS, describe


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_command_and_option_is_there(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    status, script, _ = called(capsys, "completion", shell)
    assert status == 0
    for command in describe(make_parser())[1:]:
        assert command.name in script
        for option in command.options:
            for name in option.names:
                assert (name if shell != "fish" else name.lstrip("-")) in script, (command.name, name)
    assert as_json(capsys, "completion", shell)[1]["script"] == script.rstrip("\n")


def test_the_description_is_that_of_the_parser() -> None:
    commands = {c.name: c for c in describe(make_parser())}
    assert list(commands)[1:] == list(COMMANDS)
    options = {name: o for o in commands["verify"].options for name in o.names}
    assert options["--against"].choices == ("onnxruntime", "reference")
    assert options["--against"].takes_value
    assert not options["--json"].takes_value
    assert commands["completion"].choices == tuple(sorted(SHELLS))


def shell(name: str, script: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    done = subprocess.run([name, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ver"], {"verify"}),
        (["verify", "--aga"], {"--against"}),
        (["verify", "model.onnx", "--against", ""], {"onnxruntime", "reference"}),
        (["completion", ""], set(SHELLS)),
        (["check", "model."], {"model.onnx"}),
        (["profile", "--trace", "model."], {"model.onnx"}),
        (["--ver"], {"--version"}),
    ],
)
def test_bash_completes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    (tmp_path / "model.onnx").touch()
    script = tmp_path / "completion.bash"
    script.write_text(called(capsys, "completion", "bash")[1])
    given = " ".join(f"'{w}'" for w in words)
    code = f"cd {tmp_path}; source {script}; COMP_WORDS=(forwardpass {given}); COMP_CWORD={len(words)}; _forwardpass; "
    assert set(shell("bash", code + 'printf "%s\\n" "${COMPREPLY[@]}"').split()) == expected


def test_fish_completes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "completion.fish"
    script.write_text(called(capsys, "completion", "fish")[1])
    out = shell("fish", f"source {script}; complete -C 'forwardpass verify --against '")
    assert {line.split("\t")[0] for line in out.splitlines()} == {"onnxruntime", "reference"}


def test_zsh_takes_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "completion.zsh"
    script.write_text(called(capsys, "completion", "zsh")[1])
    setup = f"autoload -Uz compinit; compinit -u -D -d {tmp_path}/dump; source {script}; "
    assert shell("zsh", setup + "print ${_comps[forwardpass]}").strip() == "_forwardpass"


def test_help_loads_no_heavy_module() -> None:
    code = (
        "import sys; from forwardpass.cli import main\n"
        "try: main(['bench', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'rich', 'onnx', 'onnxruntime', 'statistics', 'subprocess', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["info", "check", "doctor", "verify", "profile"])
def test_no_color_means_no_escapes(command: str) -> None:
    words = {"doctor": ["--no-test"], "profile": [CNN, "--no-peak", "--seconds", "0.01"]}.get(command, [CNN])
    pytest.importorskip("rich", reason="rich is not installed (extra [cli])")
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}

    def printed(**more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "forwardpass", command, *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**environment, **more},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "\x1b[1;36m" in printed()
    assert "36m" not in printed(NO_COLOR="1")
