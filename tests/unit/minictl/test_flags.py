"""Command lines, in pflag's syntax and words."""

import pytest

from minictl.errors import UsageError
from minictl.flags import Command, HelpWanted, Options, parse

TABLE = (
    ("env", "e", "list", "variables"),
    ("name", "", "string", "a name"),
    ("tty", "t", "bool", "a terminal"),
    ("interactive", "i", "bool", "input"),
    ("proxy", "", "bool", "signals", True),
    ("time", "n", "int", "seconds"),
    ("weight", "w", "uint16", "weight"),
    ("memory", "m", "bytes", "limit"),
    ("swap", "", "swap", "limit"),
    ("interval", "", "duration", "time"),
    ("cpus", "", "decimal", "number"),
    ("platform", "p", "strings", "platforms"),
)


def parsed(line: str, *, interspersed: bool = True) -> tuple[Options, list[str]]:
    command = Command(
        "verb", "[OPTIONS]", "", lambda *_: 0, TABLE, interspersed=interspersed, renamed={"label": "name"}
    )
    return parse(command, line.split())


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--name x", "name", "x"),
        ("--name=x=y", "name", "x=y"),
        ("--name=", "name", ""),
        ("--label old", "name", "old"),
        ("-e A=B -e C --env=D=", "env", ["A=B", "C", "D="]),
        ("-eA=B", "env", ["A=B"]),
        ("-e=A=B", "env", ["A=B"]),
        ("-t", "tty", True),
        ("-it", "tty", True),
        ("-ti", "interactive", True),
        ("--tty=false", "tty", False),
        ("-t=0", "tty", False),
        ("--proxy=F", "proxy", False),
        ("", "proxy", True),
        ("", "env", []),
        ("", "time", 0),
        ("-n -5", "time", -5),
        ("-itn5", "time", 5),
        ("-m 1k", "memory", 1024),
        ("--swap -1", "swap", -1),
        ("--interval 1m30s", "interval", 90_000_000_000),
        ("--cpus 1.5", "cpus", "1.5"),
        ("-p a,b -p c", "platform", ["a", "b", "c"]),
        ("--name -- x", "name", "--"),
    ],
)
def test_values(line: str, name: str, value: object) -> None:
    options, _ = parsed(line)
    assert options[name] == value
    assert options.given(name) == bool(line)


def test_flags_among_arguments_or_before_them() -> None:
    options, rest = parsed("a -t b --name x c")
    assert rest == ["a", "b", "c"]
    assert options["name"] == "x"
    options, rest = parsed("-i image -t --name x", interspersed=False)
    assert rest == ["image", "-t", "--name", "x"]
    assert options["interactive"]
    assert not options["tty"]


def test_two_dashes_end_the_flags_and_one_is_an_argument() -> None:
    assert parsed("- -t -- -x --name")[1] == ["-", "-x", "--name"]
    assert parsed("-t -- sh -c", interspersed=False)[1] == ["sh", "-c"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--foo", "unknown flag: --foo"),
        ("--foo=1", "unknown flag: --foo"),
        ("-itx", "unknown shorthand flag: 'x' in -x"),
        ("-xit", "unknown shorthand flag: 'x' in -xit"),
        ("--name", "flag needs an argument: --name"),
        ("-te", "flag needs an argument: 'e' in -e"),
        ("-n x", 'invalid argument "x" for "-n, --time" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "--time 99999999999999999999",
            'invalid argument "99999999999999999999" for "-n, --time" flag: '
            'strconv.ParseInt: parsing "99999999999999999999": value out of range',
        ),
        (
            "-w 70000",
            'invalid argument "70000" for "-w, --weight" flag: strconv.ParseUint: parsing "70000": value out of range',
        ),
        (
            "--tty=x",
            'invalid argument "x" for "-t, --tty" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        ("-m x", 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        ("-m -1", 'invalid argument "-1" for "-m, --memory" flag: invalid size: \'-1\''),
        ("--interval 3", 'invalid argument "3" for "--interval" flag: time: missing unit in duration "3"'),
        ("--cpus x", 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
    ],
)
def test_complaints(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(line)
    assert (caught.value.message, caught.value.status) == (message, 125)


@pytest.mark.parametrize("line", ["--help", "-h", "-th", "a --help"])
def test_help(line: str) -> None:
    with pytest.raises(HelpWanted):
        parsed(line)


@pytest.mark.parametrize(
    ("low", "high", "count", "wanted"),
    [
        (1, -1, 0, "requires at least 1 argument"),
        (2, -1, 1, "requires at least 2 arguments"),
        (0, 0, 1, "accepts no arguments"),
        (2, 2, 1, "requires 2 arguments"),
        (1, 1, 2, "requires 1 argument"),
        (0, 1, 2, "requires at most 1 argument"),
        (1, 2, 0, "requires at least 1 and at most 2 arguments"),
    ],
)
def test_number_of_arguments(low: int, high: int, count: int, wanted: str) -> None:
    command = Command("verb", "", "", lambda *_: 0, (), low, high)
    with pytest.raises(UsageError) as caught:
        parse(command, ["x"] * count)
    assert (caught.value.message, caught.value.status) == (f"minictl: 'minictl verb' {wanted}", 1)
