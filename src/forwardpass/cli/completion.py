from __future__ import annotations
HELP=""
def add_arguments(p): pass
def run(a,c): return {}
