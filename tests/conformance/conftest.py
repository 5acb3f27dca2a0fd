"""Conformance tests share one daemon, so each leaves it without containers and volumes."""

from collections.abc import Iterator

import pytest

from tests.wire import Wire


def remove_everything(wire: Wire) -> None:
    """All containers and volumes; images stay."""
    for container in wire.get("/containers/json", all="1"):
        response = wire("DELETE", f"/containers/{container['Id']}", query={"force": "1", "v": "1"})
        if response.status == 409:  # --rm: it is being removed already; wait for that
            response = wire("POST", f"/containers/{container['Id']}/wait", query={"condition": "removed"})
        assert response.status in (200, 204, 404), response.body
    for volume in wire.get("/volumes")["Volumes"] or []:
        response = wire("DELETE", f"/volumes/{volume['Name']}", query={"force": "1"})
        assert response.status in (204, 404), response.body


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    uses_engine = "wire" in request.fixturenames or "engine" in request.fixturenames
    wire: Wire | None = request.getfixturevalue("wire") if uses_engine else None
    yield
    if wire is not None:
        remove_everything(wire)
