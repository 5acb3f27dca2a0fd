"""Asking before something can't be undone."""

from __future__ import annotations

import sys


def agreed(warning: str) -> bool:
    """Shows `warning` and asks; only y or yes agrees (the end of stdin does not)."""
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline().strip().lower() if sys.stdin else ""
    return answer in ("y", "yes")
