"""``POST /containers/{id}/update``: what several clients change at once is all changed."""

import threading
from typing import Any

from tests.conformance.test_lifecycle import create
from tests.wire import Wire

FIELDS: dict[str, Any] = {
    "CpuShares": 555,
    "Memory": 80 << 20,
    "PidsLimit": 77,
    "CpuQuota": 40_000,
    "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    "CpusetCpus": "0",
}


def test_updates_at_the_same_time(wire: Wire, busybox: str) -> None:
    container = create(
        wire, busybox, "sleep", "300", HostConfig={"Memory": 64 << 20, "MemorySwap": 512 << 20}
    )
    wire.post(f"/containers/{container}/start")
    statuses = []
    begin = threading.Barrier(len(FIELDS))

    def update(field: str, value: Any) -> None:
        begin.wait()
        statuses.append(wire.post(f"/containers/{container}/update", {field: value}).status)

    threads = [threading.Thread(target=update, args=item) for item in FIELDS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(FIELDS)
    shown = wire.get(f"/containers/{container}/json")["HostConfig"]
    assert {field: shown[field] for field in FIELDS} == FIELDS
