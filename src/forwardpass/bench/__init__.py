"""Timing of engines: what the command `forwardpass bench` and the scripts of bench/ share.

Workers run in interpreters that may lack forwardpass, where this folder is loaded as the package `forwardpass_bench`
(see `process`). So its modules import each other relatively, nothing from the rest of the package but in the engine
`forwardpass` and in what only the parent process runs, and need NumPy alone.
"""

from __future__ import annotations
