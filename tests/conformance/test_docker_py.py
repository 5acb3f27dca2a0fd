"""docker-py, the client that test suites and tools are written with, used as they use it."""

import io
import socket
import tarfile
import threading
from typing import Any

import docker
import pytest
from docker import DockerClient
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import LogConfig, Mount, Ulimit

from tests.registry import Registry


def test_version_negotiation(engine: Any, dockerpy: DockerClient) -> None:
    assert dockerpy.ping() is True
    assert dockerpy.version()["ApiVersion"] == dockerpy.api.api_version
    assert dockerpy.info()["OSType"] == "linux"
    pinned = docker.DockerClient(base_url=engine.host, version="1.41")
    assert pinned.containers.list() == []
    pinned.close()


def test_run_and_errors(dockerpy: DockerClient, busybox: str) -> None:
    run = dockerpy.containers.run
    assert run(busybox, ["echo", "hello"], network_mode="none", remove=True) == b"hello\n"
    assert run(
        busybox, "sh -c 'echo err >&2; echo out'", network_mode="none", remove=True, stderr=True
    ).splitlines() in (
        [b"err", b"out"],
        [b"out", b"err"],
    )
    with pytest.raises(ContainerError) as failed:
        run(busybox, ["sh", "-c", "echo why >&2; exit 4"], network_mode="none", remove=True)
    assert failed.value.exit_status == 4 and failed.value.stderr == b"why\n"
    with pytest.raises(APIError, match="executable file not found"):
        run(busybox, ["no-such-command"], network_mode="none")
    with pytest.raises(NotFound):
        dockerpy.containers.get("nosuch")
    with pytest.raises(ImageNotFound):
        dockerpy.images.get("nosuch:tag")


def test_container_object(dockerpy: DockerClient, busybox: str) -> None:
    container = dockerpy.containers.run(
        busybox,
        ["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"],
        name="object",
        labels={"k": "v"},
        environment={"E": "1"},
        network_mode="none",
        detach=True,
    )
    assert container.status == "created"
    container.reload()
    assert (container.status, container.name, container.labels, container.image.tags) == (
        "running",
        "object",
        {"k": "v"},
        [busybox],
    )
    assert [found.id for found in dockerpy.containers.list(filters={"label": "k=v"})] == [container.id]
    assert next(iter(container.logs(stream=True))) == b"up\n"
    assert container.exec_run(["sh", "-c", "echo $E; exit 2"]) == (2, b"1\n")
    assert container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output == (
        b"out\n",
        b"err\n",
    )
    assert b"".join(container.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    assert container.top()["Titles"][0] == "UID"
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("renamed")
    container.stop(timeout=5)
    assert container.wait() == {"StatusCode": 3, "Error": None} or container.wait() == {"StatusCode": 3}
    container.restart(timeout=0)
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove(v=True)
    with pytest.raises(NotFound):
        container.reload()


def test_exec_socket_and_attach_socket(dockerpy: DockerClient, busybox: str) -> None:
    container = dockerpy.containers.create(busybox, ["cat"], stdin_open=True, network_mode="none")
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    raw = attached._sock if hasattr(attached, "_sock") else attached
    raw.settimeout(20)
    raw.sendall(b"ping\n")
    assert read_exactly(raw, 13) == b"\x01\0\0\0\0\0\0\x05ping\n"
    attached.close()
    raw.close()
    sleeper = dockerpy.containers.run(busybox, ["sleep", "60"], network_mode="none", detach=True)
    exec_id = dockerpy.api.exec_create(sleeper.id, ["sh", "-c", "read x; echo got $x"], stdin=True)["Id"]
    answer = dockerpy.api.exec_start(exec_id, socket=True)
    raw = answer._sock if hasattr(answer, "_sock") else answer
    raw.settimeout(20)
    raw.sendall(b"word\n")
    assert read_exactly(raw, 17) == b"\x01\0\0\0\0\0\0\x09got word\n"
    assert raw.recv(1) == b""
    answer.close()
    raw.close()
    assert dockerpy.api.exec_inspect(exec_id)["ExitCode"] == 0


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"the stream ended after {data!r}"
        data += part
    return data


def test_options(dockerpy: DockerClient, busybox: str, tmp_path: Any) -> None:
    container = dockerpy.containers.create(
        busybox,
        ["true"],
        network_mode="none",
        mem_limit="64m",
        nano_cpus=250_000_000,
        pids_limit=33,
        cap_add=["NET_ADMIN"],
        cap_drop=["CHOWN"],
        read_only=True,
        tmpfs={"/tmp": "size=1m"},
        ulimits=[Ulimit(name="nofile", soft=99, hard=199)],
        volumes={str(tmp_path): {"bind": "/data", "mode": "ro"}},
        mounts=[Mount("/vol", "pyvol")],
        working_dir="/tmp",
        user="1000",
        hostname="h",
        init=True,
        stop_signal="SIGINT",
        log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
        security_opt=["no-new-privileges"],
        group_add=["33"],
        shm_size="2m",
        devices=["/dev/null:/dev/mynull:rw"],
        extra_hosts={"db": "10.0.0.1"},
        entrypoint=["/bin/echo"],
    )
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (
        64 << 20,
        250_000_000,
        33,
        2 << 20,
    )
    assert (host["CapAdd"], host["CapDrop"]) in (
        (["NET_ADMIN"], ["CHOWN"]),
        (["CAP_NET_ADMIN"], ["CAP_CHOWN"]),
    )
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 99, "Hard": 199}] and host["ReadonlyRootfs"] is True
    assert (
        host["Binds"] == [f"{tmp_path}:/data:ro"]
        and host["Tmpfs"] == {"/tmp": "size=1m"}
        and host["Init"] is True
    )
    assert host["Mounts"] == [{"Type": "volume", "Source": "pyvol", "Target": "/vol"}]
    assert host["Devices"] == [
        {"PathOnHost": "/dev/null", "PathInContainer": "/dev/mynull", "CgroupPermissions": "rw"}
    ]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}} and host[
        "ExtraHosts"
    ] == ["db:10.0.0.1"]
    assert (config["Entrypoint"], config["StopSignal"], config["User"], config["WorkingDir"]) == (
        ["/bin/echo"],
        "SIGINT",
        "1000",
        "/tmp",
    )
    container.start()
    assert container.wait()["StatusCode"] == 0
    assert container.logs() == b"true\n"


def test_images_and_pull(dockerpy: DockerClient, registry: Registry, busybox: str) -> None:
    image = dockerpy.images.pull(f"{registry.address}/busybox", tag="latest")
    assert busybox in image.tags and image.id.startswith("sha256:")
    assert image.tag("from-py", "one") is True
    image.reload()
    assert "from-py:one" in image.tags
    assert [found.id for found in dockerpy.images.list("from-py")] == [image.id]
    assert image.history()[0]["Id"] == image.id
    dockerpy.images.remove("from-py:one")
    statuses = [
        line["status"]
        for line in dockerpy.api.pull(f"{registry.address}/busybox", "latest", stream=True, decode=True)
    ]
    assert statuses[-1] == f"Status: Image is up to date for {busybox}"


def test_archives(dockerpy: DockerClient, busybox: str) -> None:
    container = dockerpy.containers.create(busybox, ["true"], network_mode="none")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("note")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    assert container.put_archive("/tmp", data.getvalue()) is True
    chunks, stat = container.get_archive("/tmp/note")
    assert (stat["name"], stat["size"]) == ("note", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.extractfile("note")
        assert member is not None and member.read() == b"text"
    assert {entry["Path"] for entry in container.diff()} >= {"/tmp", "/tmp/note"}
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
        assert {"bin/busybox", "tmp/note", "etc/passwd"} <= {
            name.removeprefix("./") for name in tar.getnames()
        }


def test_volumes(dockerpy: DockerClient, busybox: str) -> None:
    volume = dockerpy.volumes.create("py-volume", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"} and volume.name == "py-volume"
    dockerpy.containers.run(
        busybox, ["touch", "/v/file"], volumes={"py-volume": {"bind": "/v"}}, network_mode="none", remove=True
    )
    assert [found.name for found in dockerpy.volumes.list(filters={"label": "a=b"})] == ["py-volume"]
    volume.remove()
    with pytest.raises(NotFound):
        dockerpy.volumes.get("py-volume")


def test_events_and_log_stream(dockerpy: DockerClient, busybox: str) -> None:
    stream = dockerpy.events(decode=True, filters={"type": "container", "event": "die"})
    container = dockerpy.containers.run(
        busybox, ["sh", "-c", "for i in 1 2 3; do echo $i; done"], network_mode="none", detach=True
    )
    event = next(stream)
    assert (event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["exitCode"]) == (
        "die",
        container.id,
        "0",
    )
    closing = threading.Thread(target=stream.close)
    closing.start()
    closing.join(10)
    assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    line = container.logs(timestamps=True, tail=1)
    assert line.endswith(b" 3\n") and line.startswith(b"20")


def test_network_objects_are_told(dockerpy: DockerClient, engine: Any) -> None:
    """Networks come with their own issue; what clients always list must be there: none and host."""
    names = {network.name for network in dockerpy.networks.list()}
    assert {"none", "host"} <= names
