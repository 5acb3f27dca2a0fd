import pytest

from minid.containers import mounts
from minid.containers.model import (
    BindOptions,
    ContainerConfig,
    DriverConfig,
    HostConfig,
    Mount,
    MountPoint,
    TmpfsOptions,
    VolumeOptions,
)
from minid.errors import InvalidParameter


def refuse(host_config: HostConfig, config: ContainerConfig | None = None) -> str:
    with pytest.raises(InvalidParameter) as caught:
        mounts.plan(config or ContainerConfig(), host_config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "point", "create_source", "copy_up"),
    [
        ("/s:/d", MountPoint("bind", "/s", "/d", propagation="rprivate"), True, False),
        ("/s/:/d/", MountPoint("bind", "/s", "/d", propagation="rprivate"), True, False),
        ("//s:/d/..//e", MountPoint("bind", "/s", "/e", propagation="rprivate"), True, False),
        (
            "/s:/d:ro",
            MountPoint("bind", "/s", "/d", mode="ro", rw=False, propagation="rprivate"),
            True,
            False,
        ),
        (
            "/s:/d:ro,Z,rslave",
            MountPoint("bind", "/s", "/d", mode="ro,Z,rslave", rw=False, propagation="rslave"),
            True,
            False,
        ),
        ("name:/d", MountPoint("volume", "", "/d", "name", "local", "z"), False, True),
        (
            "name:/d:nocopy,ro",
            MountPoint("volume", "", "/d", "name", "local", "nocopy,ro", rw=False),
            False,
            False,
        ),
        ("/d", MountPoint("volume", "", "/d", "", "local", "z"), False, True),
        ("/s:/d:", MountPoint("bind", "/s", "/d", propagation="rprivate"), True, False),
    ],
)
def test_binds(text: str, point: MountPoint, create_source: bool, copy_up: bool) -> None:
    planned = mounts.parse_bind(text)
    assert planned == mounts.PlannedMount(point, "bind", create_source=create_source, copy_up=copy_up)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":/x", "invalid volume specification: ':/x'"),
        ("", "invalid volume specification: ''"),
        ("/x:ro", "invalid volume specification: '/x:ro'"),
        ("/x:/y:ro:z", "invalid volume specification: '/x:/y:ro:z'"),
        ("/x:/y:foo", "invalid mode: foo"),
        ("/x:/y:ro,rw", "invalid mode: ro,rw"),
        ("/x:/y:z,Z", "invalid mode: z,Z"),
        (
            "/x:y",
            "invalid volume specification: '/x:y': invalid mount config for type \"bind\": "
            "invalid mount path: 'y' mount path must be absolute",
        ),
        (
            "/x:/",
            "invalid volume specification: '/x:/': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
        (
            "/x:/a/..",
            "invalid volume specification: '/x:/a/..': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
    ],
)
def test_broken_binds(text: str, message: str) -> None:
    assert refuse(HostConfig(binds=(text,))) == message


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount("bind", "rel", "/y"), "bind: invalid mount path: 'rel' mount path must be absolute"),
        (Mount("bind", "/tmp", "y"), "bind: invalid mount path: 'y' mount path must be absolute"),
        (Mount("bind", "/tmp", "/"), "bind: invalid specification: destination can't be '/'"),
        (Mount("bind", "/tmp"), "bind: field Target must not be empty"),
        (Mount("bind", target="/y"), "bind: field Source must not be empty"),
        (Mount("foo", "/tmp", "/y"), "foo: mount type unknown"),
        (
            Mount("volume", target="/y", read_only=True),
            "volume: must not set ReadOnly mode when using anonymous volumes",
        ),
        (Mount("tmpfs", "f", "/y"), "tmpfs: field Source must not be specified"),
        (
            Mount("tmpfs", target="/y", bind_options=BindOptions()),
            "tmpfs: field BindOptions must not be specified",
        ),
        (
            Mount("bind", "/t", "/y", volume_options=VolumeOptions()),
            "bind: field VolumeOptions must not be specified",
        ),
        (
            Mount("volume", "v", "/y", bind_options=BindOptions()),
            "volume: field BindOptions must not be specified",
        ),
        (
            Mount("bind", "/t", "/y", bind_options=BindOptions(propagation="foo")),
            "bind: invalid propagation mode: foo",
        ),
        (
            Mount("tmpfs", target="/y", tmpfs_options=TmpfsOptions(size_bytes=-1)),
            "tmpfs: invalid tmpfs size: -1",
        ),
        (
            Mount("volume", "v", "/y", volume_options=VolumeOptions(subpath="../x")),
            "volume: volume subpath must be a relative path within the volume",
        ),
    ],
)
def test_broken_mounts(mount: Mount, message: str) -> None:
    kind, _, reason = message.partition(": ")
    assert refuse(HostConfig(mounts=(mount,))) == f'invalid mount config for type "{kind}": {reason}'


def test_one_mount_for_each_destination() -> None:
    tmpfs = Mount("tmpfs", target="/y/")
    assert refuse(HostConfig(binds=("/x:/y", "/z:/y/"))) == "Duplicate mount point: /y"
    assert refuse(HostConfig(binds=("a:/y",), mounts=(tmpfs,))) == "Duplicate mount point: /y"
    assert refuse(HostConfig(binds=("a:/y",), tmpfs={"/y": ""})) == "Duplicate mount point: /y"


def test_precedence() -> None:
    """A bind hides what --volumes-from brings, and both hide the image's volumes."""
    others = [
        MountPoint("volume", "/vol/one", "/a", "one", "local"),
        MountPoint("volume", "/vol/two", "/b", "two", "local", rw=False),
    ]
    config = ContainerConfig(volumes={"/a": {}, "/b": {}, "/c/": {}, "/t": {}})
    host_config = HostConfig(binds=("/host:/a",), tmpfs={"/t": ""})
    planned = mounts.plan(config, host_config, [(others, "")])
    assert [(each.origin, each.point.destination, each.point.source) for each in planned] == [
        ("bind", "/a", "/host"),
        ("volumes-from", "/b", "/vol/two"),
        ("image", "/c", ""),
    ]
    assert not planned[1].point.rw
    assert planned[2].copy_up


def test_volumes_from_read_only() -> None:
    others = [MountPoint("volume", "/vol/one", "/a", "one", "local")]
    planned = mounts.plan(ContainerConfig(), HostConfig(), [(others, "ro")])
    assert not planned[0].point.rw
    assert mounts.parse_volumes_from("x:ro") == ("x", "ro")
    assert mounts.parse_volumes_from("x") == ("x", "")
    for text in ("", ":ro", "x:foo", "x:rslave"):
        with pytest.raises(InvalidParameter):
            mounts.parse_volumes_from(text)


def test_volume_options() -> None:
    options = VolumeOptions(
        no_copy=True, labels={"l": "1"}, driver_config=DriverConfig("other", {"o": "2"}), subpath="s"
    )
    planned = mounts.from_mount(Mount("volume", "v", "/y", volume_options=options))
    assert planned.point == MountPoint("volume", "", "/y", "v", "other", "z")
    assert (planned.copy_up, planned.subpath) == (False, "s")
    assert (planned.driver_options, planned.labels) == ({"o": "2"}, {"l": "1"})


def test_a_bind_of_mount_must_exist_unless_asked_for() -> None:
    assert not mounts.from_mount(Mount("bind", "/s", "/d")).create_source
    asked = Mount("bind", "/s", "/d", bind_options=BindOptions(create_mountpoint=True))
    assert mounts.from_mount(asked).create_source
    assert str(mounts.missing_source("/nonex")) == (
        'invalid mount config for type "bind": bind source path does not exist: /nonex'
    )


@pytest.mark.parametrize(
    ("options", "merged"),
    [
        (["noexec", "exec"], ["exec"]),
        (["noexec", "nosuid", "size=1m", "suid", "size=2m"], ["noexec", "suid", "size=2m"]),
        (["ro", "rw", "ro"], ["ro"]),
        (["rprivate", "rslave"], ["rslave"]),
    ],
)
def test_the_last_tmpfs_option_counts(options: list[str], merged: list[str]) -> None:
    assert mounts.merge_tmpfs_options(options) == merged


@pytest.mark.parametrize("option", ["foo", "size", "size=", "foo=1", "exec=1"])
def test_unknown_tmpfs_options(option: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid tmpfs option"):
        mounts.merge_tmpfs_options([option])
