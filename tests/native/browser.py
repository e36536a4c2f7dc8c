"""A page as Chromium shows it, without a screen, a network or services of its maker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["needs_browser", "shown"]

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=60000", "--dump-dom"),
]

needs_browser = pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")


def shown(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What the browser prints: the document once its scripts have run, and on stderr what they said.

    Parameters
    ----------
    profile
        A folder for the browser's own files.
    """
    command = [str(_CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    # A sanitizer's run-time library is none for the browser.
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
