"""What asv follows from commit to commit: `asv run`, `asv publish`, with bench/asv.conf.json."""

from __future__ import annotations
