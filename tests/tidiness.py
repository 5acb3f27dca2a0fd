"""Leave a daemon without containers, networks and volumes."""

from tests.wire import Wire


def remove_everything(wire: Wire) -> None:
    """All containers, volumes and networks of one's own, and what only the build cache keeps; images stay."""
    for container in wire.get("/containers/json", all="1"):
        path = f"/containers/{container['Id']}"
        response = wire("DELETE", path, query={"force": "1", "v": "1"})
        if response.status == 409:  # --rm: it is being removed already; wait for that
            response = wire("POST", f"{path}/wait", query={"condition": "removed"})
        assert response.status in (200, 204, 404), response.body
    for volume in wire.get("/volumes")["Volumes"] or []:
        response = wire("DELETE", f"/volumes/{volume['Name']}", query={"force": "1"})
        assert response.status in (204, 404), response.body
    for network in wire.get("/networks"):
        if network["Name"] not in ("bridge", "host", "none"):
            response = wire("DELETE", f"/networks/{network['Id']}")
            assert response.status in (204, 404), response.body
    response = wire("POST", "/build/prune", query={"all": "1"})
    assert response.status == 200, response.body
