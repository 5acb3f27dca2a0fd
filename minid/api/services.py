"""What the API speaks for: the daemon hands these over, ``minid.api`` decides nothing they should decide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minid.events import EventBus
from minid.hostinfo import HostInfo


@dataclass(frozen=True, slots=True)
class Services:
    """``info`` gathers the facts for ``/info`` and ``/version`` at each call (a millisecond of small files).

    ``engine_id`` is ``info().id``, kept by the server so as not to gather everything for it.
    """

    images: Any
    containers: Any
    volumes: Any
    events: EventBus
    config: Any
    info: Callable[[], HostInfo]
    engine_id: str = ""
