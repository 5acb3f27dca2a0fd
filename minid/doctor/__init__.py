"""What a host offers to minid and what to do about what it lacks: ``gather`` looks, ``findings`` judges."""

from minid.doctor.facts import Facts, Storage
from minid.doctor.findings import FAIL, OK, WARN, Finding, findings, shown
from minid.doctor.gather import gather

__all__ = ["FAIL", "OK", "WARN", "Facts", "Finding", "Storage", "findings", "gather", "shown"]
