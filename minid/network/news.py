"""What is told about networks: events for clients, changes for those who answer names."""

from collections.abc import Callable, Mapping

from minid.events import EventBus
from minid.network.model import Endpoint, Network


class News:
    """One per daemon. ``on_change``: names or addresses of a network (its id) are others now."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self.on_change: Callable[[str], None] = lambda network_id: None

    def created(self, network: Network) -> None:
        self._publish("create", network)

    def destroyed(self, network: Network) -> None:
        self._publish("destroy", network)

    def connected(self, network: Network, endpoint: Endpoint) -> None:
        self._publish("connect", network, container=endpoint.container_id)
        self.on_change(network.id)

    def disconnected(self, network: Network, endpoint: Endpoint) -> None:
        self._publish("disconnect", network, container=endpoint.container_id)
        self.on_change(network.id)

    def _publish(self, action: str, network: Network, **attributes: str) -> None:
        about: Mapping[str, str] = {"name": network.name, "type": network.driver, **attributes}
        self._events.publish("network", action, network.id, about)
