"""Where things are on disk: the two roots and every path below them.

<data_root>/                          0710 root
  minid.db                            SQLite (WAL)
  blobs/sha256/<hex>                  exactly as the registry sent them
  blobs/partial/<hex>                 unfinished downloads, resumed by Range
  snapshots/<diff-id hex>/            an unpacked layer, owned by the snapshot driver
  containers/<id>/                    bundle/config.json, rootfs pieces, logs, exit.json, hosts, hostname,
  resolv.conf
  volumes/<name>/_data
<exec_root>/                          0711 root
  minid.sock  minid.pid  shims/<id>.sock
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The daemon's directories; pure path arithmetic, nothing is created here."""

    data_root: Path
    exec_root: Path

    @property
    def database(self) -> Path:
        return self.data_root / "minid.db"

    @property
    def blobs(self) -> Path:
        return self.data_root / "blobs"

    @property
    def snapshots(self) -> Path:
        return self.data_root / "snapshots"

    @property
    def containers(self) -> Path:
        return self.data_root / "containers"

    @property
    def volumes(self) -> Path:
        return self.data_root / "volumes"

    @property
    def shims(self) -> Path:
        return self.exec_root / "shims"

    def container(self, container_id: str) -> Path:
        return self.containers / container_id
