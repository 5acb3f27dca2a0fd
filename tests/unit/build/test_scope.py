"""What an ARG line and a stage's parent have to do with the values of arguments; ports as people write them."""

import pytest

from minid.build.dockerfile import parse, resolve
from minid.build.dockerfile.model import Arg
from minid.build.scope import Scope
from minid.build.state import apply, from_scratch


def declare(scope: Scope, text: str) -> None:
    (arg,) = parse(f"FROM scratch\nARG {text}".encode()).stages[0].instructions
    assert isinstance(arg, Arg)
    scope.declare(arg)


def test_defaults_of_a_line_see_what_was_before_it() -> None:
    scope = Scope({"c": "given"}, {})
    declare(scope, "a=1")
    declare(scope, "a=2 b=$a c=$a d=$c")
    assert {name: scope.lookup(name) for name in "abcd"} == {"a": "2", "b": "1", "c": "given", "d": ""}


def test_a_stage_has_the_arguments_of_the_stage_it_is_based_on() -> None:
    parent = Scope({}, {}, Scope({}, {}))
    declare(parent, "a=1 b")
    child = Scope({}, {}, Scope({}, {}))
    child.inherit(parent)
    assert child.lookup("a") == "1"
    assert child.arguments() == {"a": "1"}
    declare(child, "a=2")
    assert (child.lookup("a"), parent.lookup("a")) == ("2", "1")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80:81", ["81/tcp"]),
        ("127.0.0.1:80:81/UDP", ["81/udp"]),
        ("127.0.0.1::81", ["81/tcp"]),
        ("90-91:90-91/tcp", ["90/tcp", "91/tcp"]),
    ],
)
def test_the_ports_of_the_host_mean_nothing(text: str, ports: list[str]) -> None:
    (expose,) = parse(f"FROM scratch\nEXPOSE {text}".encode()).stages[0].instructions
    state, _ = apply(from_scratch("linux", "amd64", ""), resolve(expose, {"": ""}.get))
    assert list(state.config["ExposedPorts"]) == ports
