"""Listings of contexts: the tree that an archive describes, whatever is in it."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minid.build import listing
from minid.build.listing import Builder, Node, find, follow, load
from minid.build.patterns import Patterns
from minid.images.layers import tar
from minid.images.layers.tar import TarError
from tests.copy_rules import tar_of


def built(tree: dict[str, str]) -> Builder:
    builder = Builder()
    source = tar.Memory(tar_of(tree))
    reader = tar.Reader(source)
    for number, entry in enumerate(reader, 1):
        builder.add(entry, number, f"digest-{number}" if entry.kind == tar.REGULAR else "")
    return builder


def told(builder: Builder) -> dict[str, str]:
    """Path → kind, mode and what there is to it, after a trip through JSON."""
    found = {}

    def walk(node: Node, path: str) -> None:
        for name, child in listing.children(node):
            found[path + name] = f"{child.kind} {child.mode:o} {child.target or child.digest}".rstrip()
            walk(child, f"{path}{name}/")

    root = find(load(builder.dump()), "/")
    assert root is not None
    walk(root, "")
    return found


def test_tree() -> None:
    tree = {"a": "f 644 1:2 x", "d": "d 700 0:0", "d/l": "l 0:0 ../a", "p": "p 600 0:0"}
    assert told(built(tree)) == {"a": "f 644 digest-1", "d": "d 700", "d/l": "l 777 ../a", "p": "p 600"}


def test_missing_parents_are_made() -> None:
    assert told(built({"a/b/c": "f 644 0:0 x"})) == {"a": "d 755", "a/b": "d 755", "a/b/c": "f 644 digest-1"}


def test_the_last_of_a_name_wins() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        for name, kind in (
            ("x", tarfile.REGTYPE),
            ("x", tarfile.DIRTYPE),
            ("x/y", tarfile.REGTYPE),
            ("x", tarfile.DIRTYPE),
        ):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.mode = 0o700
            opened.addfile(entry)
        entry = tarfile.TarInfo("x")
        opened.addfile(entry)
        entry = tarfile.TarInfo("x/z")
        entry.type = tarfile.DIRTYPE
        opened.addfile(tarfile.TarInfo("w"))
    builder = Builder()
    for entry_read in tar.Reader(tar.Memory(archive.getvalue())):
        builder.add(entry_read)
    assert told(builder) == {"x": "f 644", "w": "f 644"}


def test_a_parent_that_is_a_link_is_followed_inside() -> None:
    tree = {
        "d": "d 755 0:0",
        "l": "l 0:0 /d",
        "up": "l 0:0 ../../../../d",
        "l/a": "f 644 0:0 x",
        "up/b": "f 644 0:0 y",
    }
    assert told(built(tree)).keys() == {"d", "d/a", "d/b", "l", "up"}


def test_hard_links() -> None:
    root = load(built({"a": "f 644 0:0 x", "d": "d 755 0:0", "d/b": "h 0:0 a", "c": "f 644 0:0 y"}).dump())
    nodes = [find(root, path) for path in ("/a", "/d/b", "/c")]
    first, second, other = [node for node in nodes if node is not None]
    assert first == second
    assert first.link
    assert not other.link


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"../a": "f 644 0:0 x"}, "leads out"),
        ({"d/../../a": "f 644 0:0 x"}, "leads out"),
        ({"a": "h 0:0 nothing"}, "not in the archive"),
        ({"a": "h 0:0 ../../etc/passwd"}, "leads out"),
        ({"d": "d 755 0:0", "a": "h 0:0 d"}, "not in the archive"),
        ({"a": "f 644 0:0 x", "a/b": "f 644 0:0 y"}, "not a directory"),
        ({"l": "l 0:0 l", "l/b": "f 644 0:0 y"}, "too many levels"),
        ({"/".join(["x" * 200] * 25): "f 644 0:0 y"}, "4096 bytes"),
        ({".": "f 644 0:0 x"}, "only a directory can be the root"),
    ],
)
def test_refused(tree: dict[str, str], words: str) -> None:
    with pytest.raises(TarError, match=words):
        built(tree)


def test_take_out_and_prune() -> None:
    names = ("a", "d/a", "d/b", "d/e/a", "f/g/h")
    builder = built(dict.fromkeys(names, "f 644 0:0 x"))
    root = load(builder.dump())
    listing.take_out(root, "/d/b")
    listing.take_out(root, "/d/b")
    listing.take_out(root, "/nothing/there")
    assert find(root, "/d/b") is None
    listing.prune(root, Patterns(["**/a", "f", "!d/a", "d/e"]))
    left = {path for path in names if find(root, "/" + path) is not None}
    assert left == {"d/a"}
    assert find(root, "/f") is None
    assert find(root, "/d/e") is None


NAMES = st.sampled_from(["a", "b", "c", "..", ".", ""])
PATHS = st.lists(NAMES, max_size=6).map("/".join)


@settings(max_examples=300, deadline=None)
@given(
    links=st.dictionaries(st.sampled_from(["/a", "/b", "/a/b", "/c", "/c/a"]), PATHS, max_size=5), path=PATHS
)
def test_following_never_leads_out(links: dict[str, str], path: str) -> None:
    """The result has no link in it and no ``..``, or there is a loop."""

    def look(place: str) -> Node | None:
        return Node(listing.SYMLINK, 0, 0, target=links[place]) if place in links else None

    try:
        found = follow("/" + path, look)
    except TarError:
        return
    assert found.startswith("/")
    parts = found.split("/")[1:]
    assert ".." not in parts
    assert "." not in parts
    for count in range(1, len(parts) + 1):
        assert "/" + "/".join(parts[:count]) not in links
