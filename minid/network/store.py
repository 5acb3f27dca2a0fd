"""Networks, endpoints and addresses in the database; a row is what makes each of them exist.

An address row has the network and the address as its key: no address can be given twice, whatever happens.
It goes with its endpoint (ON DELETE CASCADE).
"""

import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minid.network.model import Endpoint, Network, Sandbox
from minid.records import decode, encode
from minid.state import Database

T = TypeVar("T")

SCHEMA = (
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL
    );
    CREATE TABLE sandboxes (
        container_id TEXT PRIMARY KEY,
        record TEXT NOT NULL
    );
    CREATE TABLE endpoints (
        id TEXT PRIMARY KEY,
        network_id TEXT NOT NULL REFERENCES networks (id),
        container_id TEXT NOT NULL REFERENCES sandboxes (container_id) ON DELETE CASCADE,
        record TEXT NOT NULL,
        UNIQUE (container_id, network_id)
    );
    CREATE TABLE addresses (
        network_id TEXT NOT NULL,
        address TEXT NOT NULL,
        endpoint_id TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
        PRIMARY KEY (network_id, address)
    ) WITHOUT ROWID;
    CREATE INDEX addresses_of_endpoint ON addresses (endpoint_id)
    """,
)


@dataclass(slots=True)
class Taken:
    """The addresses of one network in use, as numbers, by IP version; and the last one given out."""

    numbers: dict[int, set[int]] = field(default_factory=lambda: {4: set(), 6: set()})
    last: dict[int, int] = field(default_factory=lambda: {4: 0, 6: 0})


class Store:
    """All networks and sandboxes, in memory for readers and in the database for the next daemon."""

    def __init__(self, database: Database) -> None:
        database.migrate("networks", SCHEMA)
        self._database = database
        self.networks: dict[str, Network] = {}
        self.sandboxes: dict[str, Sandbox] = {}  # by container
        self.taken: defaultdict[str, Taken] = defaultdict(Taken)  # by network
        connection = database.connection
        for row in connection.execute("SELECT record FROM networks"):
            self._remember(decode(Network, json.loads(row["record"])))
        endpoints = defaultdict(list)
        for row in connection.execute("SELECT container_id, record FROM endpoints ORDER BY rowid"):
            endpoints[row["container_id"]].append(decode(Endpoint, json.loads(row["record"])))
        for row in connection.execute("SELECT container_id, record FROM sandboxes"):
            record = json.loads(row["record"])
            found = tuple(endpoints[row["container_id"]])
            self.sandboxes[row["container_id"]] = Sandbox(
                record["id"], row["container_id"], record["name"], found, tuple(record.get("ports", ()))
            )
            for endpoint in found:
                self._take(endpoint)

    def add_network(self, network: Network) -> None:
        self._database.connection.execute(
            "INSERT INTO networks VALUES (?, ?, ?)", (network.id, network.name, _json(network))
        )
        self._remember(network)

    def replace_network(self, network: Network) -> None:
        self._database.connection.execute(
            "UPDATE networks SET record = ? WHERE id = ?", (_json(network), network.id)
        )
        self._remember(network)

    def remove_network(self, network_id: str) -> None:
        """It must have no endpoints."""
        self._database.connection.execute("DELETE FROM networks WHERE id = ?", (network_id,))
        self.networks.pop(network_id, None)
        self.taken.pop(network_id, None)

    def endpoints(self, network_id: str) -> list[Endpoint]:
        return [
            endpoint
            for sandbox in self.sandboxes.values()
            for endpoint in sandbox.endpoints
            if endpoint.network_id == network_id
        ]

    def add_sandbox(self, sandbox: Sandbox) -> None:
        """Everything or nothing; a sandbox that the container's last run left is replaced."""
        self.remove_sandbox(sandbox.container_id)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO sandboxes VALUES (?, ?)", (sandbox.container_id, _sandbox_json(sandbox))
            )
            for endpoint in sandbox.endpoints:
                self._insert(endpoint)
        self.sandboxes[sandbox.container_id] = sandbox
        for endpoint in sandbox.endpoints:
            self._take(endpoint)

    def replace_sandbox(self, sandbox: Sandbox) -> None:
        """Its own record (name, ports); the endpoints stay as they are."""
        self._database.connection.execute(
            "UPDATE sandboxes SET record = ? WHERE container_id = ?",
            (_sandbox_json(sandbox), sandbox.container_id),
        )
        self.sandboxes[sandbox.container_id] = sandbox

    def remove_sandbox(self, container_id: str) -> Sandbox | None:
        """Idempotent; the addresses are free afterwards."""
        sandbox = self.sandboxes.pop(container_id, None)
        if sandbox is not None:
            self._database.connection.execute("DELETE FROM sandboxes WHERE container_id = ?", (container_id,))
            for endpoint in sandbox.endpoints:
                self._give_back(endpoint)
        return sandbox

    def add_endpoint(self, endpoint: Endpoint) -> Sandbox:
        """One more endpoint of a sandbox that stands."""
        with self._database.transaction():
            self._insert(endpoint)
        self._take(endpoint)
        old = self.sandboxes[endpoint.container_id]
        return self._with(old, (*old.endpoints, endpoint))

    def replace_endpoint(self, endpoint: Endpoint) -> Sandbox:
        """Names and the like; its addresses stay."""
        self._database.connection.execute(
            "UPDATE endpoints SET record = ? WHERE id = ?", (_json(endpoint), endpoint.id)
        )
        old = self.sandboxes[endpoint.container_id]
        return self._with(old, (endpoint if one.id == endpoint.id else one for one in old.endpoints))

    def remove_endpoint(self, endpoint: Endpoint) -> Sandbox:
        self._database.connection.execute("DELETE FROM endpoints WHERE id = ?", (endpoint.id,))
        self._give_back(endpoint)
        old = self.sandboxes[endpoint.container_id]
        return self._with(old, (one for one in old.endpoints if one.id != endpoint.id))

    def _with(self, sandbox: Sandbox, endpoints: Iterable[Endpoint]) -> Sandbox:
        new = Sandbox(sandbox.id, sandbox.container_id, sandbox.name, tuple(endpoints), sandbox.ports)
        self.sandboxes[sandbox.container_id] = new
        return new

    def _insert(self, endpoint: Endpoint) -> None:
        connection = self._database.connection
        connection.execute(
            "INSERT INTO endpoints VALUES (?, ?, ?, ?)",
            (endpoint.id, endpoint.network_id, endpoint.container_id, _json(endpoint)),
        )
        connection.executemany(
            "INSERT INTO addresses VALUES (?, ?, ?)",
            [(endpoint.network_id, text, endpoint.id) for text in _addresses(endpoint)],
        )

    def _remember(self, network: Network) -> None:
        self.networks[network.id] = network

    def _take(self, endpoint: Endpoint) -> None:
        taken = self.taken[endpoint.network_id]
        for text in _addresses(endpoint):
            address = ipaddress.ip_address(text)
            taken.numbers[address.version].add(int(address))

    def _give_back(self, endpoint: Endpoint) -> None:
        taken = self.taken[endpoint.network_id]
        for text in _addresses(endpoint):
            address = ipaddress.ip_address(text)
            taken.numbers[address.version].discard(int(address))


def _addresses(endpoint: Endpoint) -> Sequence[str]:
    return [text for text in (endpoint.ip4, endpoint.ip6) if text]


def _json(record: Any) -> str:
    return json.dumps(encode(record), separators=(",", ":"))


def _sandbox_json(sandbox: Sandbox) -> str:
    return json.dumps(
        {"id": sandbox.id, "name": sandbox.name, "ports": list(sandbox.ports)}, separators=(",", ":")
    )
