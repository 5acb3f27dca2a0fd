"""minictl: the thin client. Never imports minid."""

__version__ = "0.1.0"
