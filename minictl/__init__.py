"""minictl: the thin command-line client of the Docker Engine API that minid (or dockerd) serves."""

__version__ = "0.1.0"
