"""A real daemon on data roots of other versions."""

import os
import sqlite3
from collections.abc import Callable

import pytest

from minid import rootversion, tables
from minid.exits import ExitStatus
from tests.engine import Engine
from tests.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_an_older_data_root_is_brought_up_to_date_and_a_newer_one_refused(make_engine: Callable[..., Engine]):
    engine = make_engine()
    engine.start()
    Wire(engine.socket, "").post("/volumes/create", {"Name": "kept"})
    assert engine.stop() == 0
    # As before there were build caches, times of use and the file `version`.
    (engine.data_root / "version").unlink()
    database = sqlite3.connect(engine.data_root / "minid.db")
    database.executescript(
        "DROP TABLE image_uses; DROP TABLE build_cache; DROP TABLE built_images;"
        "DELETE FROM schema_version WHERE component IN ('image_uses', 'build_cache')"
    )
    database.close()
    engine.start()
    volumes = Wire(engine.socket, "").get("/volumes")["Volumes"]
    assert [volume["Name"] for volume in volumes] == ["kept"]
    assert Wire(engine.socket, "").get("/system/df")["BuildCache"] == []
    assert rootversion.find(engine.data_root) == tables.KNOWN
    assert engine.stop() == 0
    # As a later version leaves it.
    file = engine.data_root / "version"
    file.write_text(file.read_text().replace("volumes 1", "volumes 2"))
    before = {path: path.stat().st_mtime_ns for path in engine.data_root.rglob("*")}
    process = engine.spawn()
    assert process.wait(timeout=30) == ExitStatus.DATA_ROOT_NEWER
    assert "it has volumes 2; minid 0.1.0 knows volumes 1" in engine.log_tail()
    assert {path: path.stat().st_mtime_ns for path in engine.data_root.rglob("*")} == before
    engine.process = None
