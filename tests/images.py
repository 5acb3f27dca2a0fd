"""Images for the tests, made on the spot from Debian's busybox-static and, for the slow ones, mmdebstrap.

A layer is an uncompressed tar; an image is a list of layers and a config; ``push`` writes it to a registry in any
of the forms that engines meet: OCI or Docker schema 2, gzip, zstd or plain layers.
"""

import copy
import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import probe
from tests.registry import Descriptor, Registry, digest_of

BUSYBOX = Path("/bin/busybox")
CREATED = "2024-03-01T12:00:00Z"
MTIME = 1709294400

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:the app:/home/app:/bin/sh
other:x:1001:1002::/nonexistent:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
www:x:33:app
app:x:1000:
extra:x:2000:app,other
nobody:x:65534:
"""

# number, arguments; see tests/conformance/test_isolation.py for what each must return
PROBES = {
    "keyctl": probe.syscall(250, 0, -3 & (2**32 - 1)),
    "add_key": probe.syscall(248),
    "bpf": probe.syscall(321),
    "userfaultfd": probe.syscall(323),
    "clone3": probe.syscall(435),
    "kexec_load": probe.syscall(246),
    "open_by_handle_at": probe.syscall(304),
    "getpid": probe.syscall(39),
    "keyctl32": probe.syscall_i386(288, 0, -3 & (2**32 - 1)),
    "getpid32": probe.syscall_i386(20),
}


class Layer:
    """Builds one layer's tar, entry by entry; all owned by root unless said otherwise."""

    def __init__(self) -> None:
        self._data = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._data, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, path: str, kind: bytes, data: bytes = b"", mode: int = 0o644, **fields: Any) -> "Layer":
        entry = tarfile.TarInfo(path)
        entry.type = kind
        entry.mode = mode
        entry.mtime = MTIME
        entry.size = len(data)
        for name, value in fields.items():
            setattr(entry, name, value)
        self._tar.addfile(entry, io.BytesIO(data))
        return self

    def directory(self, path: str, mode: int = 0o755, **fields: Any) -> "Layer":
        return self.add(path, tarfile.DIRTYPE, mode=mode, **fields)

    def file(self, path: str, data: bytes | str = b"", mode: int = 0o644, **fields: Any) -> "Layer":
        return self.add(
            path, tarfile.REGTYPE, data.encode() if isinstance(data, str) else data, mode, **fields
        )

    def symlink(self, path: str, target: str) -> "Layer":
        return self.add(path, tarfile.SYMTYPE, mode=0o777, linkname=target)

    def hardlink(self, path: str, target: str) -> "Layer":
        return self.add(path, tarfile.LNKTYPE, linkname=target)

    def whiteout(self, path: str) -> "Layer":
        head, _, tail = path.rpartition("/")
        return self.file(f"{head}/.wh.{tail}" if head else f".wh.{tail}", mode=0)

    def opaque(self, path: str) -> "Layer":
        return self.file(f"{path}/.wh..wh..opq", mode=0)

    def done(self) -> bytes:
        self._tar.close()
        return self._data.getvalue()


@dataclass
class Image:
    """Layers, base first, as uncompressed tars (bytes or files), and the ``config`` object of the image config."""

    layers: Sequence[bytes | Path]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    os: str = "linux"

    def config_json(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "os": self.os,
            "created": CREATED,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(_read(layer)) for layer in self.layers]},
            "history": [
                {"created": CREATED, "created_by": f"layer {number}", "comment": "minid tests"}
                for number in range(len(self.layers))
            ]
            + [{"created": CREATED, "created_by": 'CMD ["sh"]', "empty_layer": True}],
        }

    def variant(self, **config: Any) -> "Image":
        """The same layers with other keys in the config."""
        other = copy.copy(self)
        other.config = {**self.config, **config}
        return other

    def push(
        self,
        registry: Registry,
        repository: str,
        tag: str = "latest",
        *,
        form: str = "oci",
        compression: str = "gzip",
    ) -> Descriptor:
        """Push as ``form`` oci|docker with layers compressed by gzip|zstd|none; tag "" pushes by digest only."""
        import json

        config_type, manifest_type, layer_type = MEDIA_TYPES[form]
        config = registry.push_blob(repository, json.dumps(self.config_json()).encode(), config_type)
        layers = [
            registry.push_blob(repository, _compressed(layer, compression), layer_type(compression))
            for layer in self.layers
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
        return registry.push_manifest(repository, tag, manifest)


def push_index(
    registry: Registry, repository: str, tag: str, images: dict[str, Image], *, form: str = "oci"
) -> Descriptor:
    """An index (``form`` oci) or manifest list (docker) over ``images``, keyed by "os/architecture[/variant]"."""
    entries = []
    for platform, image in images.items():
        os_name, architecture, *variant = platform.split("/")
        described: dict[str, str] = {"os": os_name, "architecture": architecture}
        if variant:
            described["variant"] = variant[0]
        entries.append(image.push(registry, repository, "", form=form).as_json(platform=described))
    media_type = f"{OCI}.index.v1+json" if form == "oci" else f"{DOCKER}.distribution.manifest.list.v2+json"
    return registry.push_manifest(
        repository, tag, {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    )


def _oci_layer(compression: str) -> str:
    return f"{OCI}.layer.v1.tar" + {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[compression]


def _docker_layer(compression: str) -> str:
    return f"{DOCKER}.image.rootfs.diff.tar" + {"gzip": ".gzip", "zstd": ".zstd", "none": ""}[compression]


MEDIA_TYPES = {
    "oci": (f"{OCI}.config.v1+json", f"{OCI}.manifest.v1+json", _oci_layer),
    "docker": (f"{DOCKER}.container.image.v1+json", f"{DOCKER}.distribution.manifest.v2+json", _docker_layer),
}


def _read(layer: bytes | Path) -> bytes:
    return layer if isinstance(layer, bytes) else layer.read_bytes()


def _compressed(layer: bytes | Path, compression: str) -> bytes:
    """A file's gzip is kept beside it: Debian's layers take half a minute."""
    if isinstance(layer, bytes) or compression != "gzip":
        return _compress(_read(layer), compression)
    kept = layer.with_suffix(".tar.gz")
    if not kept.exists():
        made = kept.with_suffix(f".{os.getpid()}")
        made.write_bytes(_compress(layer.read_bytes(), compression))
        made.rename(kept)
    return kept.read_bytes()


def _compress(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(3).compress(data)
    return data


def busybox() -> Image:
    """busybox with all applets, users app (1000) and other (1001), probes, and files for the tests of layers.

    Layer 0 is the base; layer 1 removes ``/etc/removed``, empties ``/opaque`` and replaces ``/etc/replaced``.
    """
    applets = subprocess.run(
        [str(BUSYBOX), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    base = Layer()
    for path in (
        "bin",
        "dev",
        "etc",
        "home",
        "proc",
        "sys",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
        "opaque",
        "probe",
    ):
        base.directory(path)
    base.directory("root", 0o700).directory("tmp", 0o1777).directory("var/tmp", 0o1777)
    base.directory("home/app", 0o750, uid=1000, gid=1000)
    base.directory("var/data", 0o711, uid=1000, gid=2000).file(
        "var/data/seed", "seed\n", 0o640, uid=1000, gid=2000
    )
    base.symlink("var/data/link", "seed").symlink("var/etc-link", "/etc").symlink(
        "var/up-link", "../../../../../etc"
    )
    base.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for applet in applets:
        if applet != "busybox":
            base.symlink(f"bin/{applet}", "busybox")
    base.file("etc/passwd", PASSWD).file("etc/group", GROUP).file("etc/removed", "old\n").file(
        "etc/replaced", "old\n"
    )
    base.file("opaque/old", "old\n").hardlink("etc/hardlink", "etc/replaced")
    base.file("etc/not-executable", "#!/bin/sh\n", 0o644).file("etc/bad-format", "\x00\x01garbage", 0o755)
    base.file("etc/bad-interpreter", "#!/no/such/interpreter\n", 0o755)
    for name, program in PROBES.items():
        base.file(f"probe/{name}", program, 0o755)
    base.file("probe/setuid", probe.geteuid(), 0o4755)
    top = (
        Layer()
        .whiteout("etc/removed")
        .opaque("opaque")
        .file("opaque/new", "new\n")
        .file("etc/replaced", "new\n")
    )
    return Image(
        [base.done(), top.done()],
        {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
    )


VARIANTS = ("user", "entrypoint", "volume", "stopsignal", "labelled", "workdir", "numeric-user", "empty")


def busybox_variants(base: Image) -> dict[str, Image]:
    """One image for every thing that a config may preset, all on the layers of ``base``."""
    return {
        "user": base.variant(
            User="app", WorkingDir="/home/app", Env=[*base.config["Env"], "FROM_IMAGE=yes", "BOTH=image"]
        ),
        "entrypoint": base.variant(Entrypoint=["/bin/echo", "entry"], Cmd=["default", "args"]),
        "volume": base.variant(Volumes={"/var/data": {}, "/var/empty": {}}),
        "stopsignal": base.variant(StopSignal="SIGUSR1"),
        "labelled": base.variant(
            Labels={"org.minid.test": "yes", "both": "image"}, ExposedPorts={"80/tcp": {}}
        ),
        "workdir": base.variant(WorkingDir="/made/by/engine"),
        "numeric-user": base.variant(User="4242:4343"),
        "empty": base.variant(Cmd=None),
    }


def cache() -> Path:
    """Where images that take long to make are kept between runs."""
    path = Path(os.environ.get("MINID_TEST_CACHE", "/var/cache/minid-tests"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def debian(mirror_options: Sequence[str] = ()) -> Image:
    """Debian 12 made by mmdebstrap: three layers (system, packages, files), more than 150 MB unpacked. Cached.

    Takes about a minute the first time and needs Debian's packages.
    """
    names = ["0-base.tar", "1-packages.tar", "2-files.tar"]
    place = cache() / "debian-12-v1"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=cache(), prefix="making-") as made:
            _make_debian(Path(made), names, mirror_options)
            os.rename(made, place)
            Path(made).mkdir()  # TemporaryDirectory wants to remove it
    return Image(
        [place / name for name in names],
        {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["bash"],
            "WorkingDir": "/srv",
        },
    )


def _make_debian(place: Path, names: list[str], options: Sequence[str]) -> None:
    """Bootstrap twice, without and with packages; the second layer is what the second has more."""
    small, large = place / "small.tar", place / "large.tar"
    include = "--include=python3-minimal,libpython3-stdlib,perl,git,less,procps,ca-certificates,curl,vim-tiny,locales"
    for target, more in ((small, []), (large, [include])):
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--quiet", *more, *options, "bookworm", str(target)],
            check=True,
            timeout=900,
        )
    os.rename(small, place / names[0])
    _write_difference(place / names[0], large, place / names[1])
    large.unlink()
    layer = Layer()
    for number in range(1500):
        if number % 100 == 0:
            layer.directory(f"srv/{number // 100:02}")
        text = f"file {number}\n".encode() * 600
        layer.file(f"srv/{number // 100:02}/{number:04}.txt", text, uid=number % 7)
    layer.file("srv/random.bin", os.urandom(24 << 20))
    (place / names[2]).write_bytes(layer.done())


def _write_difference(base: Path, full: Path, target: Path) -> None:
    """The entries of ``full`` that are new or differ in content or kind; directories above them come along."""

    def signature(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[Any, ...]:
        data = tar.extractfile(entry) if entry.isreg() else None
        content = digest_of(data.read()) if data else ""
        return entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, content

    with tarfile.open(base) as old:
        known = {entry.name: signature(old, entry) for entry in old}
    with tarfile.open(full) as new, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        for entry in new:
            if entry.isdir() or known.get(entry.name) != signature(new, entry):
                out.addfile(entry, new.extractfile(entry) if entry.isreg() else None)


def have_mmdebstrap() -> bool:
    return shutil.which("mmdebstrap") is not None
