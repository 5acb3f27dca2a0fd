"""Dockerfile instructions of commit and import: what they change, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import InvalidParameter
from minid.images.instructions import apply

BASE: dict[str, Any] = {"Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "Entrypoint": None, "WorkingDir": "/w"}


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("ENV PATH=$PATH:/x", {"Env": ["PATH=/bin:/x", "A=1"]}),
        ("env B='$A' C=\"$A\" D=${A} E=\\$A", {"Env": ["PATH=/bin", "A=1", "B=$A", "C=1", "D=1", "E=$A"]}),
        ("ENV B=${NO:-else} C=${A:+set}", {"Env": ["PATH=/bin", "A=1", "B=else", "C=set"]}),
        ("ENV A two  words", {"Env": ["PATH=/bin", "A=two words"]}),
        ('ENV A="" ', {"Env": ["PATH=/bin", "A="]}),
        ("CMD [not, json]", {"Cmd": ["/bin/sh", "-c", "[not, json]"]}),
        ('ENTRYPOINT ["/e", "x"]', {"Entrypoint": ["/e", "x"], "Cmd": None}),
        (
            "EXPOSE 8000-8002 9/udp",
            {"ExposedPorts": {"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}, "9/udp": {}}},
        ),
        ("WORKDIR ../x/./y", {"WorkingDir": "/x/y"}),
        ("WORKDIR $A", {"WorkingDir": "/w/1"}),
        ('VOLUME ["/a b"]', {"Volumes": {"/a b": {}}}),
        ("LABEL one=1 two='2 2'", {"Labels": {"one": "1", "two": "2 2"}}),
        (
            'HEALTHCHECK --timeout=1m30s --retries=3 CMD ["a"]',
            {"Healthcheck": {"Test": ["CMD", "a"], "Timeout": 90 * 10**9, "Retries": 3}},
        ),
        ("# a comment", {}),
        ("USER a\\\nb", {"User": "ab"}),
        ("USER a\nUSER b", {"User": "b"}),
    ],
)
def test_changes(line: str, changed: dict[str, Any]) -> None:
    before = {key: list(value) if isinstance(value, list) else value for key, value in BASE.items()}
    assert apply(BASE, [line]) == {**BASE, **changed}
    assert before == BASE, "the original stays as it is"


@pytest.mark.parametrize(
    "line",
    [
        *("RUN true", "FROM x", "COPY a b", "ARG x", "SHELL []", "MAINTAINER x", "nonsense"),
        *(
            "CMD",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV A=1 B",
            "EXPOSE x",
            "EXPOSE 0",
            "EXPOSE 70000",
            "EXPOSE 9-8",
            "EXPOSE 1/x",
        ),
        *("USER a b", "WORKDIR a b", "VOLUME []x ''", "LABEL x", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x"),
        *(
            "HEALTHCHECK",
            "HEALTHCHECK true",
            "HEALTHCHECK --interval=x CMD a",
            "HEALTHCHECK --no=1 CMD a",
            "USER 'a",
        ),
    ],
)
def test_refused(line: str) -> None:
    with pytest.raises(InvalidParameter):
        apply(BASE, [line])


@given(
    st.sampled_from(["CMD", "ENV", "LABEL", "EXPOSE", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT"]),
    st.text(max_size=40),
)
def test_any_text_is_a_change_or_refused(name: str, text: str) -> None:
    try:
        changed = apply(BASE, [f"{name} {text}"])
    except InvalidParameter:
        return
    assert all(isinstance(item, str) and "=" in item for item in changed["Env"])
