"""The reference grammar, against the behaviour that distribution/reference documents in its own tests."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import InvalidParameter
from minid.images.reference import Reference, parse, parse_any, parse_exact

F64 = "f" * 64
F128 = "f" * 128

EXACT = [
    ("test_com", "", "test_com", "", ""),
    ("test.com:tag", "", "test.com", "tag", ""),
    ("test.com:5000", "", "test.com", "5000", ""),
    ("test.com/repo:tag", "test.com", "repo", "tag", ""),
    ("test:5000/repo", "test:5000", "repo", "", ""),
    ("test:5000/repo:tag", "test:5000", "repo", "tag", ""),
    (f"test:5000/repo@sha256:{F64}", "test:5000", "repo", "", f"sha256:{F64}"),
    (f"test:5000/repo:tag@sha256:{F64}", "test:5000", "repo", "tag", f"sha256:{F64}"),
    ("lowercase:Uppercase", "", "lowercase", "Uppercase", ""),
    ("a/" * 127 + "a:tag-puts-this-over-max", "a", "a/" * 126 + "a", "tag-puts-this-over-max", ""),
    ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux", "some-long-tag", ""),
    (
        "b.gcr.io/test.example.com/my-app:test.example.com",
        "b.gcr.io",
        "test.example.com/my-app",
        "test.example.com",
        "",
    ),
    ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", ""),
    (f"xn--7o8h.com/myimage:t@sha512:{F128}", "xn--7o8h.com", "myimage", "t", f"sha512:{F128}"),
    ("foo_bar.com:8080", "", "foo_bar.com", "8080", ""),
    ("foo/foo_bar.com:8080", "foo", "foo_bar.com", "8080", ""),
    ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050", ""),
    ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "", ""),
    ("[2001:db8:1:2:3:4:5:6]/repo:tag", "[2001:db8:1:2:3:4:5:6]", "repo", "tag", ""),
    (f"[2001:db8::1]:5000/repo:tag@sha256:{F64}", "[2001:db8::1]:5000", "repo", "tag", f"sha256:{F64}"),
    ("[::1]:5000/repo", "[::1]:5000", "repo", "", ""),
    ("Uppercase/lowercase:tag", "Uppercase", "lowercase", "tag", ""),
]


@pytest.mark.parametrize(("text", "domain", "path", "tag", "digest"), EXACT)
def test_the_bare_grammar(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert parse_exact(text) == Reference(domain, path, tag, digest)
    assert str(parse_exact(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one component"),
        (":justtag", "invalid reference format"),
        (f"@sha256:{F64}", "invalid reference format"),
        ("repo@sha256:" + "f" * 34, "invalid checksum digest length"),
        (f"validname@invaliddigest:{F64}", "unsupported digest algorithm"),
        ("repo@sha256:" + "F" * 64, "lower-case hex"),
        ("Uppercase:tag", "must be lowercase"),
        ("test:5000/Uppercase/lowercase:tag", "must be lowercase"),
        ("a/" * 128 + "a/" + "a:tag", "more than 255"),
        ("aa/asdf$$^/aa", "invalid reference format"),
        ("[2001:db8::1]", "invalid reference format"),
        ("[2001:db8::1]:5000", "invalid reference format"),
        ("[fe80::1%eth0]:5000/repo", "invalid reference format"),
        ("repo\n", "invalid reference format"),
        ("repo:ta\u00e9g", "invalid reference format"),
        ("repo:" + "a" * 129, "invalid reference format"),
    ],
)
def test_what_the_bare_grammar_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        parse_exact(text)


NORMALIZED = [
    # text, familiar name, canonical name, domain
    ("fooo/bar", "fooo/bar", "docker.io/fooo/bar"),
    ("library/ubuntu", "ubuntu", "docker.io/library/ubuntu"),
    ("nonlibrary/ubuntu", "nonlibrary/ubuntu", "docker.io/nonlibrary/ubuntu"),
    ("ubuntu", "ubuntu", "docker.io/library/ubuntu"),
    ("other/library", "other/library", "docker.io/other/library"),
    ("127.0.0.1:8000/private/moonbase", "127.0.0.1:8000/private/moonbase", "127.0.0.1:8000/private/moonbase"),
    ("127.0.0.1:8000/privatebase", "127.0.0.1:8000/privatebase", "127.0.0.1:8000/privatebase"),
    ("example.com/private/moonbase", "example.com/private/moonbase", "example.com/private/moonbase"),
    ("example.com/privatebase", "example.com/privatebase", "example.com/privatebase"),
    (
        "example.com:8000/private/moonbase",
        "example.com:8000/private/moonbase",
        "example.com:8000/private/moonbase",
    ),
    ("localhost/private/moonbase", "localhost/private/moonbase", "localhost/private/moonbase"),
    ("localhost/privatebase", "localhost/privatebase", "localhost/privatebase"),
    ("example.com/library/x", "example.com/library/x", "example.com/library/x"),
    ("ubuntu-12.04-base", "ubuntu-12.04-base", "docker.io/library/ubuntu-12.04-base"),
    ("index.docker.io/library/ubuntu", "ubuntu", "docker.io/library/ubuntu"),
    ("index.docker.io/ubuntu", "ubuntu", "docker.io/library/ubuntu"),
    ("docker.io/ubuntu", "ubuntu", "docker.io/library/ubuntu"),
    ("docker.io/library/a/b", "library/a/b", "docker.io/library/a/b"),
    ("localhost", "localhost", "docker.io/library/localhost"),
    ("LOCALHOST/repo", "LOCALHOST/repo", "LOCALHOST/repo"),
    ("Foo/bar", "Foo/bar", "Foo/bar"),
    ("docker-docker/docker", "docker-docker/docker", "docker.io/docker-docker/docker"),
    ("foo/foo__bar", "foo/foo__bar", "docker.io/foo/foo__bar"),
    ("ge---rald/x.y_z", "ge---rald/x.y_z", "docker.io/ge---rald/x.y_z"),
    ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
    (F64 + "a", F64 + "a", "docker.io/library/" + F64 + "a"),
]


@pytest.mark.parametrize(("text", "familiar", "canonical"), NORMALIZED)
def test_names_are_made_canonical_and_familiar(text: str, familiar: str, canonical: str) -> None:
    reference = parse(text)
    assert (reference.familiar_name, reference.name) == (familiar, canonical)
    assert parse(familiar) == reference
    assert parse(canonical) == reference
    assert reference.with_default_tag().familiar == f"{familiar}:latest"


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a",
        "Docker",
        "",
        "docker.io/",
        "fooo/",
        "ubuntu:",
        "ubuntu@",
        "a__/b",
        "a___b",
        ".a",
        "a/.b",
        "ubuntu:-tag",
        "ubuntu:.tag",
        "ubu\x00ntu",
        "x" * 256,
    ],
)
def test_names_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(text)


def test_the_uppercase_error_names_the_repository() -> None:
    with pytest.raises(InvalidParameter, match=r"repository name \(library/Ubuntu\) must be lowercase"):
        parse("Ubuntu:latest")


def test_the_path_may_have_255_characters() -> None:
    assert len(parse("h.io/" + "a" * 255).path) == 255


def test_a_digest_keeps_the_default_tag_away() -> None:
    reference = parse(f"busybox@sha256:{F64}").with_default_tag()
    assert reference.tag == ""
    assert reference.familiar == f"busybox@sha256:{F64}"
    assert parse(f"busybox:1@sha256:{F64}").tag_or_digest == f"sha256:{F64}"


def test_identifiers_and_digests_are_not_names() -> None:
    assert parse_any(F64) == f"sha256:{F64}"
    assert parse_any(f"sha256:{F64}") == f"sha256:{F64}"
    assert parse_any("sha256:abc") == Reference("docker.io", "library/sha256", "abc")


def test_tags_and_digests_are_checked_when_added() -> None:
    name = parse("busybox")
    assert str(name.with_tag("1_.-")) == "docker.io/library/busybox:1_.-"
    for bad in ("", "a b", "-a", "a" * 129, "a/b", "a\n"):
        with pytest.raises(InvalidParameter):
            name.with_tag(bad)
    with pytest.raises(InvalidParameter):
        name.with_digest("sha256:short")


alphanumeric = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
separators = st.sampled_from([".", "_", "__", "-", "--", "---"])


@st.composite
def joined(draw: st.DrawFn, parts: st.SearchStrategy[str], between: st.SearchStrategy[str]) -> str:
    text = draw(parts)
    for part in draw(st.lists(parts, max_size=3)):
        text += draw(between) + part
    return text


components = joined(alphanumeric, separators)
paths = joined(components, st.just("/"))
hosts = joined(st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?", fullmatch=True), st.just("."))
domains = st.one_of(
    st.just("localhost"),
    st.tuples(hosts, st.integers(1, 65535)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    hosts.filter(lambda host: "." in host),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]:5000"),
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)


@given(domains, paths, st.one_of(st.just(""), tags), st.one_of(st.just(""), digests))
def test_every_reference_survives_writing_and_reading(domain: str, path: str, tag: str, digest: str) -> None:
    reference = Reference(domain, path, tag, digest)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(paths.filter(lambda path: "/" in path and path.partition("/")[0] != "localhost"), tags)
def test_the_default_registry_survives_the_familiar_form(path: str, tag: str) -> None:
    if "." not in path.partition("/")[0]:
        reference = parse(f"{path}:{tag}")
        assert reference.domain == "docker.io"
        assert parse(reference.familiar) == reference
        assert parse(str(reference)) == reference


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_clear_error(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidParameter:
        return
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference
