"""What counts as remote, and what is asked of a git repository."""

import pytest

from minid.build.remotes import Repository, find_context_repository, find_repository, is_remote
from minid.errors import InvalidParameter


@pytest.mark.parametrize(
    ("word", "repository"),
    [
        ("https://example.com/a/b.git", Repository("https://example.com/a/b.git")),
        ("https://example.com/a/b.git#v1:docs/x", Repository("https://example.com/a/b.git", "v1", "docs/x")),
        ("http://example.com:80/b.git#:docs", Repository("http://example.com:80/b.git", "", "docs")),
        ("git@example.com:a/b.git#main", Repository("git@example.com:a/b.git", "main")),
        ("git@example.com:a/b", Repository("git@example.com:a/b")),
        ("git://example.com/b", Repository("git://example.com/b")),
        ("ssh://git@example.com/b#x", Repository("ssh://git@example.com/b", "x")),
        ("https://example.com/a.tar.gz", None),
        ("https://example.com/a.git/file", None),
        ("https://example.com/?x=a.git", None),
        ("file:///etc/x.git", None),
        ("ext::sh -c x", None),
        ("a.git", None),
        ("git@", None),
        ("some/dir:x", None),
    ],
)
def test_repository(word: str, repository: Repository | None) -> None:
    assert find_repository(word) == repository
    assert is_remote(word) == (repository is not None or word.startswith("http"))


@pytest.mark.parametrize(
    "word", ["https://h/x.git#-f", "git://h/x#--upload-pack=x", "git://h/x y", "ssh://-oProxyCommand=x/y"]
)
def test_refused(word: str) -> None:
    with pytest.raises(InvalidParameter):
        find_repository(word)


def test_contexts() -> None:
    assert find_context_repository("github.com/a/b#main") == Repository("https://github.com/a/b.git", "main")
    assert find_context_repository("github.com/a/b.git") == Repository("https://github.com/a/b.git")
    assert find_context_repository("https://example.com/x.tar") is None


def test_kinds() -> None:
    assert Repository("git@h:x").is_ssh
    assert Repository("ssh://h/x").is_ssh
    assert not Repository("https://h/x.git").is_ssh
    assert Repository("u", "a" * 40).is_commit
    assert not Repository("u", "a" * 39).is_commit
