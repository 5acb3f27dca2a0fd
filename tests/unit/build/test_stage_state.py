"""What instructions make of a config, which variables they see, which stages a build needs, what prune takes."""

from collections.abc import Mapping
from typing import Any

import pytest

from minid.build import plan
from minid.build.cache import key_of
from minid.build.dockerfile import parse, platform_args, resolve
from minid.build.dockerfile.model import Arg
from minid.build.pruning import CACHE_MOUNT, LAYER, Record, Wanted, choose
from minid.build.scope import Scope
from minid.build.state import StageState, apply, from_image, from_scratch
from minid.errors import InvalidParameter
from minid.images.model import Image
from minid.images.platform import Platform

AMD64 = Platform("linux", "amd64")


def after(text: str, state: StageState | None = None) -> StageState:
    """The state after the instructions of a stage that make no layer."""
    state = state or from_scratch("linux", "amd64", "")
    for instruction in parse(b"FROM scratch\n" + text.encode()).stages[0].instructions:
        env = state.env
        state, told = apply(state, resolve(instruction, env.get))
        state = state.with_step("2024-01-01T00:00:00Z", told, None)
    return state


def image(**config: Any) -> Image:
    document = {"architecture": "amd64", "os": "linux", "config": config, "history": [{"created_by": "base"}]}
    return Image("sha256:1", "", document, 0, ("sha256:a",), (), (), "", 0, "")


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("ENV A=1 B=2\nENV A=3 C=$A", {"Env": ["PATH=" + after("").env["PATH"], "A=3", "B=2", "C=1"]}),
        ('LABEL a=b "c d"="e f"\nLABEL a=g', {"Labels": {"a": "g", "c d": "e f"}}),
        ("WORKDIR /a\nWORKDIR b/../c\nWORKDIR d", {"WorkingDir": "/a/c/d"}),
        ("USER 1000:100", {"User": "1000:100"}),
        ("CMD echo hi", {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        ('CMD ["echo", "hi"]', {"Cmd": ["echo", "hi"]}),
        ('SHELL ["bash", "-c"]\nCMD echo hi', {"Cmd": ["bash", "-c", "echo hi"], "Shell": ["bash", "-c"]}),
        ('CMD ["a"]\nENTRYPOINT ["e"]', {"Cmd": ["a"], "Entrypoint": ["e"]}),
        (
            "EXPOSE 80 53/UDP 1000-1002",
            {"ExposedPorts": {key: {} for key in ("1000/tcp", "1001/tcp", "1002/tcp", "53/udp", "80/tcp")}},
        ),
        ('VOLUME /a /b\nVOLUME ["/c"]', {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
        ("STOPSIGNAL SIGUSR1", {"StopSignal": "SIGUSR1"}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=5s --retries=2 CMD curl x",
            {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 5_000_000_000, "Retries": 2}},
        ),
        ("ONBUILD RUN a\nONBUILD COPY b c", {"OnBuild": ["RUN a", "COPY b c"]}),
    ],
)
def test_config(text: str, config: Mapping[str, Any]) -> None:
    state = after(text)
    assert {key: state.config[key] for key in config} == config


def test_entrypoint_forgets_the_base_images_cmd() -> None:
    base = from_image(image(Cmd=["sh"], Env=["PATH=/x"], OnBuild=["RUN a"]))
    assert after('ENTRYPOINT ["e"]', base).config["Cmd"] is None
    assert after("USER x", base).config["Cmd"] == ["sh"]
    assert "OnBuild" not in base.config, "triggers are the base image's own"
    assert base.env == {"PATH": "/x"}


def test_history_and_document() -> None:
    state = after("MAINTAINER me\nENV A=b", from_image(image()))
    document = state.image_document("2024-01-01T00:00:00Z")
    assert [step["created_by"] for step in document["history"]] == ["base", "MAINTAINER me", "ENV A=b"]
    assert document["history"][1]["empty_layer"] and document["author"] == "me"
    assert document["rootfs"]["diff_ids"] == ["sha256:a"]
    layered = state.with_step("2024-01-01T00:00:00Z", "RUN x", "sha256:b")
    assert layered.diff_ids == ("sha256:a", "sha256:b") and "empty_layer" not in layered.history[-1]


@pytest.mark.parametrize("port", ["0", "65536", "80-79", "x", "80/icmp"])
def test_wrong_ports(port: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid port"):
        after(f"EXPOSE {port}")


# --- variables


def scope(text: str, given: Mapping[str, str | None], env: Mapping[str, str] | None = None) -> Scope:
    """After the ARGs of the last stage."""
    dockerfile = parse(text.encode())
    platform = platform_args(AMD64, AMD64)
    outer = Scope(given, platform)
    for each in dockerfile.args:
        outer.declare(each)
    inner = Scope(given, platform, outer)
    inner.see(env or {})
    for instruction in dockerfile.stages[-1].instructions:
        assert isinstance(instruction, Arg)
        inner.declare(instruction)
    return inner


@pytest.mark.parametrize(
    ("text", "given", "env", "value"),
    [
        ("FROM x\nARG A=1", {}, {}, "1"),
        ("FROM x\nARG A=1", {"A": "2"}, {}, "2"),
        ("FROM x\nARG A=1", {"A": None}, {}, "1"),
        ("FROM x\nARG A", {}, {}, None),
        ("FROM x", {"A": "2"}, {}, None),  # not declared
        ("ARG A=1\nFROM x", {}, {}, None),  # only for FROM
        ("ARG A=1\nFROM x\nARG A", {}, {}, "1"),
        ("ARG A=1\nFROM x\nARG A=3", {}, {}, "3"),
        ("ARG A=1\nFROM x\nARG A=3", {"A": "2"}, {}, "2"),
        ("FROM x\nARG A=1", {"A": "2"}, {"A": "env"}, "env"),
        ("FROM x\nARG B=1\nARG A=${B}2", {}, {}, "12"),
        ("ARG A=1\nFROM x AS y\nFROM z", {}, {}, None),
    ],
)
def test_arguments(
    text: str, given: Mapping[str, str | None], env: Mapping[str, str], value: str | None
) -> None:
    assert scope(text, given, env).lookup("A") == value


def test_what_run_sees() -> None:
    found = scope(
        "FROM x\nARG A=1\nARG B\nARG E=5\nARG TARGETARCH", {"HTTP_PROXY": "p", "Z": "z"}, {"E": "env"}
    )
    assert found.arguments() == {"A": "1", "TARGETARCH": "amd64"}
    assert found.proxies() == {"HTTP_PROXY": "p"}
    declared = scope("FROM x\nARG HTTP_PROXY", {"HTTP_PROXY": "p"})
    assert declared.arguments() == {"HTTP_PROXY": "p"} and declared.proxies() == {}


# --- stages

STAGES = b"""
FROM a AS one
FROM b AS two
FROM one AS three
COPY --from=two /x /y
FROM c AS four
RUN --mount=type=bind,from=three,target=/t true
FROM two AS last
"""


@pytest.mark.parametrize(
    ("target", "names"),
    [("", ["two", "last"]), ("THREE", ["one", "two", "three"]), ("3", ["one", "two", "three", "four"])],
)
def test_needed_stages(target: str, names: list[str]) -> None:
    dockerfile = parse(STAGES)
    found = plan.needed(dockerfile, plan.find_target(dockerfile, target), lambda stage: stage.base.image)
    assert [stage.name for stage in found] == names


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(InvalidParameter, match=r"target stage 'five' could not be found: .* one, two"):
        plan.find_target(parse(STAGES), "five")


# --- cache


def test_keys_say_what_counts() -> None:
    inputs = {"layers": ("sha256:a",), "argv": ["a", "b"], "env": ["A=b"]}
    assert key_of("run", inputs) == key_of("run", dict(reversed(inputs.items())))
    others = [
        key_of("copy", inputs),
        key_of("run", inputs | {"layers": ("sha256:b",)}),
        key_of("run", inputs | {"argv": ["a b"]}),
        key_of("run", inputs | {"env": []}),
    ]
    assert len({key_of("run", inputs), *others}) == 5
    assert key_of("run", {"argv": ["\udcff"]}), "what is no UTF-8 has a key, too"


def record(name: str, size_bytes: int, last_used_ns: int, **more: Any) -> Record:
    return Record(name, more.pop("kind", LAYER), "", size_bytes, 0, last_used_ns, 0, **more)


RECORDS = [
    record("new", 10, 30),
    record("old", 20, 10),
    record("shared", 40, 5, shared=True),
    record("used", 80, 1, in_use=True),
    record("mount", 1, 20, kind=CACHE_MOUNT),
]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), ["old", "mount", "new"]),
        (Wanted(all=True), ["shared", "old", "mount", "new"]),
        (Wanted(before_ns=20), ["old"]),
        (Wanted(keep_bytes=111), []),
        (Wanted(keep_bytes=110), ["old"]),
        (Wanted(keep_bytes=90), ["old", "mount"]),
        (Wanted(filters={"type": ("exec.cachemount",)}), ["mount"]),
        (Wanted(filters={"id": ("ne",)}), ["new"]),
        (Wanted(all=True, filters={"shared": ("",)}), ["shared"]),
    ],
)
def test_prune(wanted: Wanted, names: list[str]) -> None:
    assert [each.id for each in choose(RECORDS, wanted)] == names


def test_prune_by_an_unknown_filter() -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'x'"):
        choose(RECORDS, Wanted(filters={"x": ("1",)}))
