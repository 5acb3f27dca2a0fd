"""The rules of COPY, ADD and WORKDIR as rows: what is there before, what is in the context, an instruction, what comes of it.

``RULES`` hold for dockerd's classic builder and for minid; ``NEWER`` are those of today's reference that the classic
builder does not know. A tree is told as ``{path: line}``; lines are ``d 755 0:0``, ``f 644 0:0 text``, ``l 0:0 target``,
with `` @`` at the end if the time is the context's.
"""

import io
import stat
import tarfile
from dataclasses import dataclass, field
from typing import Any

CONTEXT_MTIME = 1_600_000_000
BASE_MTIME = 1_500_000_000


def tar_of(tree: dict[str, str], mtime: int = CONTEXT_MTIME, compress: str = "") -> bytes:
    """An archive of the tree, in the order it is written. ``h target`` is a hard link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compress}", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for path, line in tree.items():
            kind, _, rest = line.partition(" ")
            entry = tarfile.TarInfo(path)
            entry.mtime = mtime
            data = b""
            if kind in "lh":
                entry.type = tarfile.SYMTYPE if kind == "l" else tarfile.LNKTYPE
                owner, _, entry.linkname = rest.partition(" ")
                entry.mode = 0o777 if kind == "l" else 0o644  # a hard link's is the file's
            else:
                mode, _, rest = rest.partition(" ")
                owner, _, text = rest.partition(" ")
                entry.mode = int(mode, 8)
                entry.type = (
                    tarfile.DIRTYPE if kind == "d" else tarfile.FIFOTYPE if kind == "p" else tarfile.REGTYPE
                )
                data = text.encode("latin-1")
                entry.size = len(data)
            entry.uid, entry.gid = (int(number) for number in owner.split(":"))
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def tree_of(archive: bytes, mtime: int = CONTEXT_MTIME) -> dict[str, str]:
    """What ``tar_of`` would have been told; hard links as ``h owner first name``."""
    tree = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            owner = f"{entry.uid}:{entry.gid}"
            path = entry.name.strip("/")
            if entry.issym():
                line = f"l {owner} {entry.linkname}"
            elif entry.islnk():
                line = f"h {owner} {entry.linkname.strip('/')}"
            elif entry.isfile():
                file = opened.extractfile(entry)
                assert file is not None
                line = f"f {stat.S_IMODE(entry.mode):o} {owner} {file.read().decode('latin-1')}".removesuffix(
                    " "
                )
            else:
                line = f"{'d' if entry.isdir() else 'p'} {stat.S_IMODE(entry.mode):o} {owner}"
            tree[path] = line + (" @" if int(entry.mtime) == mtime else "")
    return tree


@dataclass(frozen=True)
class Rule:
    name: str
    instruction: str  # may be several lines
    expected: dict[str, str] = field(default_factory=dict)  # what is new or changed; "" for what is gone
    error: str = ""
    context: dict[str, str] = field(default_factory=dict)  # besides CONTEXT
    base: dict[str, str] = field(default_factory=dict)  # besides BASE
    dockerfile: str = "FROM {base}\n{instruction}\n"
    options: dict[str, Any] = field(default_factory=dict)


BASE = {
    "etc": "d 755 0:0",
    "etc/passwd": "f 644 0:0 root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\nlone:x:1002:1003::/:/bin/sh\n",
    "etc/group": "f 644 0:0 root:x:0:\napp:x:1001:\nwww:x:33:\n",
    "tmp": "d 1777 0:0",
    "there": "d 711 5:6",
    "there/old": "f 600 7:8 old",
    "there/sub": "d 700 9:9",
    "there/sub/kept": "f 644 9:9 kept",
    "link": "l 0:0 there",
    "absolute": "l 0:0 /there",
    "outside": "l 0:0 ../../../../there",
    "dangling": "l 0:0 later/on",
    "filelink": "l 0:0 there/old",
    "file": "f 644 0:0 file",
}
CONTEXT = {
    "a": "f 640 11:12 aa",
    "b": "f 755 0:0 bb",
    "suid": "f 4755 0:0 ss",
    "d": "d 750 13:14",
    "d/x": "f 600 13:14 xx",
    "d/y": "f 644 0:0 yy",
    "d/sub": "d 705 0:0",
    "d/sub/z": "f 644 0:0 zz",
    "d/l": "l 0:0 x",
    "empty": "d 755 0:0",
    "tofile": "l 0:0 a",
    "todir": "l 0:0 d",
    "broken": "l 0:0 nowhere",
    "out": "l 0:0 ../../../../../../etc/hostname",
    "h1": "f 644 0:0 hh",
    "h2": "h 0:0 h1",
    "wild-1": "f 644 0:0 w1",
    "wild-2": "f 644 0:0 w2",
    "odd[1]": "f 644 0:0 odd",
}

FILE_A = "f 640 0:0 aa @"
D = {
    "x": "f 600 0:0 xx @",
    "y": "f 644 0:0 yy @",
    "sub": "d 705 0:0 @",
    "sub/z": "f 644 0:0 zz @",
    "l": "l 0:0 x @",
}


def below(directory: str, tree: dict[str, str]) -> dict[str, str]:
    return {f"{directory}/{path}": line for path, line in tree.items()}


TAR = {
    "in": "d 710 21:22",
    "in/f": "f 640 21:22 inner",
    "in/l": "l 21:22 f",
    "sub": "d 755 0:0",
    "sub/new": "f 644 0:0 n",
}
UNPACKED = {path: f"{line} @" for path, line in TAR.items()}


def packed(tree: dict[str, str], compress: str = "") -> str:
    return "f 644 0:0 " + tar_of(tree, compress=compress).decode("latin-1")


MISSING = "file not found in build context or excluded by .dockerignore: stat {}: file does not exist"
SEVERAL = (
    "When using COPY with more than one source file, the destination must be a directory and end with a /"
)
NEW = "d 755 0:0"
STAGES = "FROM {base} AS one\nCOPY --chown=3:4 a d /o/\nFROM {base}\n{instruction}\n"

RULES = [
    # where a file goes
    Rule("a new file", "COPY a /new", {"new": FILE_A}),
    Rule("into a new directory", "COPY a /new/", {"new": NEW, "new/a": FILE_A}),
    Rule("parents are made", "COPY a /p/q/new", {"p": NEW, "p/q": NEW, "p/q/new": FILE_A}),
    Rule("into a directory that is there", "COPY a /there", {"there/a": FILE_A}),
    Rule("with a slash", "COPY a /there/", {"there/a": FILE_A}),
    Rule("relative", "COPY a there/", {"there/a": FILE_A}),
    Rule("relative, no workdir", "COPY a .", {"a": FILE_A}),
    Rule("several", "COPY a b /x/", {"x": NEW, "x/a": FILE_A, "x/b": "f 755 0:0 bb @"}),
    Rule("several into no directory", "COPY a b /x", error=SEVERAL),
    Rule("several without a slash", "COPY a b /there", error=SEVERAL),
    Rule("over a file", "COPY a /file", {"file": FILE_A}),
    Rule("a file as directory", "COPY a /file/", error="failed to copy files: "),
    Rule("a file as parent", "COPY a /file/b", error="failed to copy files: "),
    Rule("dots in the destination", "COPY a /there/../x", {"x": FILE_A}),
    Rule("dots above", "WORKDIR /there/sub\nCOPY a ..", {"there/a": FILE_A}),
    Rule(
        "JSON",
        'COPY ["a", "b", "/sp ace/"]',
        {"sp ace": NEW, "sp ace/a": FILE_A, "sp ace/b": "f 755 0:0 bb @"},
    ),
    # links in the destination
    Rule("a link to a directory", "COPY a /link", {"there/a": FILE_A}),
    Rule("an absolute link", "COPY a /absolute/", {"there/a": FILE_A}),
    Rule("a link that leads out", "COPY a /outside/", {"there/a": FILE_A}),
    Rule("a dangling link", "COPY a /dangling", {"later": NEW, "later/on": FILE_A}),
    Rule("into a dangling link", "COPY a /dangling/", {"later": NEW, "later/on": NEW, "later/on/a": FILE_A}),
    Rule("a link to a file", "COPY a /filelink", {"there/old": FILE_A}),
    Rule(
        "a file over a link inside",
        "COPY l /",
        {"link": "f 644 0:0 ll @"},
        context={"l": "d 755 0:0", "l/link": "f 644 0:0 ll"},
    ),
    Rule("a host's path by a link", "COPY a /hosts/x", {"etc/x": FILE_A}, base={"hosts": "l 0:0 /etc"}),
    Rule("the root by a link", "COPY a /all/x", {"x": FILE_A}, base={"all": "l 0:0 /"}),
    # directories
    Rule("a directory's contents", "COPY d /new", {"new": NEW, **below("new", D)}),
    Rule("slashes behind it", "COPY d/ /new/", {"new": NEW, **below("new", D)}),
    Rule("a dot behind it", "COPY d/. /new", {"new": NEW, **below("new", D)}),
    Rule("merged", "COPY d /there", below("there", D)),
    Rule("a directory's own mode stays", "COPY d /tmp", below("tmp", D)),
    Rule("through a link", "COPY d /link", below("there", D)),
    Rule("into the working directory", "WORKDIR /w/x\nCOPY d .", {"w": NEW, "w/x": NEW, **below("w/x", D)}),
    Rule("an empty one", "COPY empty /e", {"e": NEW}),
    Rule("over a file", "COPY d /file", error="failed to copy files: "),
    Rule("and a file", "COPY a d /x/", {"x": NEW, "x/a": FILE_A, **below("x", D)}),
    # sources
    Rule("a link to a file is followed", "COPY tofile /x", {"x": FILE_A}),
    Rule("under its own name", "COPY tofile /x/", {"x": NEW, "x/tofile": FILE_A}),
    Rule("a link to a directory is followed", "COPY todir /x", {"x": NEW, **below("x", D)}),
    Rule("behind a link", "COPY todir/x /x", {"x": D["x"]}),
    Rule("a broken link", "COPY broken /x", error=f"COPY failed: {MISSING.format('broken')}"),
    Rule("a link out of the context", "COPY out /x", error=f"COPY failed: {MISSING.format('out')}"),
    Rule("nothing there", "COPY missing /x", error=f"COPY failed: {MISSING.format('missing')}"),
    Rule("nothing there for ADD", "ADD missing /x", error=f"ADD failed: {MISSING.format('missing')}"),
    Rule("from the root", "COPY /a /x", {"x": FILE_A}),
    Rule("up inside", "COPY d/../a /x", {"x": FILE_A}),
    Rule("slashes inside", "COPY d//sub/z /x", {"x": D["sub/z"]}),
    Rule(
        "hard links stay",
        "COPY hard /x",
        {"x": NEW, "x/1": "f 644 0:0 hh @", "x/2": "h 0:0 x/1 @"},
        context={"hard": "d 755 0:0", "hard/1": "f 644 0:0 hh", "hard/2": "h 0:0 hard/1"},
    ),
    Rule(
        "an absolute link stays a link",
        "COPY l /x",
        {"x": NEW, "x/host": "l 0:0 /etc/passwd @"},
        context={"l": "d 755 0:0", "l/host": "l 0:0 /etc/passwd"},
    ),
    # globs
    Rule("a star", "COPY wild-* /x/", {"x": NEW, "x/wild-1": "f 644 0:0 w1 @", "x/wild-2": "f 644 0:0 w2 @"}),
    Rule("several by a star", "COPY wild-* /x", error=SEVERAL),
    Rule("one by a star", "COPY wild-1* /x", {"x": "f 644 0:0 w1 @"}),
    Rule(
        "a question mark",
        "COPY wild-? /x/",
        {"x": NEW, "x/wild-1": "f 644 0:0 w1 @", "x/wild-2": "f 644 0:0 w2 @"},
    ),
    Rule("a class", "COPY wild-[2-9] /x/", {"x": NEW, "x/wild-2": "f 644 0:0 w2 @"}),
    Rule("nothing by a star", "COPY nothing* /x/", error="COPY failed: no source files were specified"),
    Rule("nothing and something", "COPY nothing* a /x/", {"x": NEW, "x/a": FILE_A}),
    Rule("an escaped bracket", "COPY odd[[]1] /x", {"x": "f 644 0:0 odd @"}),
    Rule("a directory by a star", "COPY d* /x/", {"x": NEW, **below("x", D)}),
    Rule("in the middle", "COPY */x /x/", {"x": NEW, "x/x": D["x"]}),
    # owners
    Rule("a name", "COPY --chown=app a /x", {"x": "f 640 1000:1001 aa @"}),
    Rule(
        "name and group",
        "COPY --chown=app:www d /there",
        below("there", {path: line.replace("0:0", "1000:33") for path, line in D.items()}),
    ),
    Rule("a number", "COPY --chown=1000 a /x", {"x": "f 640 1000:1000 aa @"}),
    Rule(
        "numbers, and what is made",
        "COPY --chown=5:6 a /p/q/",
        {"p": "d 755 5:6", "p/q": "d 755 5:6", "p/q/a": "f 640 5:6 aa @"},
    ),
    Rule(
        "no such user",
        "COPY --chown=nosuch a /x",
        error="unable to convert uid/gid chown string to host mapping: can't find uid for user nosuch: no such user: nosuch",
    ),
    Rule(
        "no such group",
        "COPY --chown=app:nosuch a /x",
        error="unable to convert uid/gid chown string to host mapping: can't find gid for group nosuch: no such group: nosuch",
    ),
    Rule("USER does not matter", "USER app\nCOPY a /u/v", {"u": NEW, "u/v": FILE_A}),
    # WORKDIR
    Rule("WORKDIR makes", "WORKDIR /w/x\nCOPY a rel", {"w": NEW, "w/x": NEW, "w/x/rel": FILE_A}),
    Rule("WORKDIR leaves", "WORKDIR /there", {}),
    Rule("WORKDIR follows", "WORKDIR /link/n", {"there/n": NEW}),
    Rule("WORKDIR dangling", "WORKDIR /dangling/n", {"later": NEW, "later/on": NEW, "later/on/n": NEW}),
    Rule("WORKDIR is a file", "WORKDIR /file", error="Cannot mkdir: /file is not a directory"),
    # stages
    Rule(
        "from a stage",
        "COPY --from=one /o /o2",
        {
            "o2": NEW,
            "o2/a": "f 640 3:4 aa @",
            **below("o2", {path: line.replace("0:0", "3:4") for path, line in D.items()}),
        },
        dockerfile=STAGES,
    ),
    Rule("a file from a stage", "COPY --from=one o/a /x", {"x": "f 640 3:4 aa @"}, dockerfile=STAGES),
    Rule(
        "from a stage, owned", "COPY --from=one --chown=5 /o/x /x", {"x": "f 600 5:5 xx @"}, dockerfile=STAGES
    ),
    Rule(
        "links are followed",
        "COPY --from=one /o/* /x/",
        {
            "x": NEW,
            "x/a": "f 640 3:4 aa @",
            "x/x": "f 600 3:4 xx @",
            "x/y": "f 644 3:4 yy @",
            "x/l": "f 600 3:4 xx @",
            "x/z": "f 644 3:4 zz @",
        },
        dockerfile=STAGES,
    ),
    Rule(
        "not in the stage",
        "COPY --from=one o/missing /x",
        error="COPY failed: stat o/missing: file does not exist",
        dockerfile=STAGES,
    ),
    Rule(
        "nothing in the stage",
        "COPY --from=one /o/no* /x/",
        error="COPY failed: no source files were specified",
        dockerfile=STAGES,
    ),
    Rule("a stage's link", "COPY --from=one /link/old /x", {"x": "f 600 7:8 old"}, dockerfile=STAGES),
    Rule(
        "a stage's link that leads out",
        "COPY --from=one /outside /x",
        {"x": NEW, "x/old": "f 600 7:8 old", "x/sub": "d 700 9:9", "x/sub/kept": "f 644 9:9 kept"},
        dockerfile=STAGES,
    ),
    # ADD
    Rule("ADD a file", "ADD a /x", {"x": FILE_A}),
    Rule("ADD a directory", "ADD d /x/", {"x": NEW, **below("x", D)}),
    Rule("ADD a tar", "ADD t /x", {"x": NEW, **below("x", UNPACKED)}, context={"t": packed(TAR)}),
    Rule("ADD gzip", "ADD t /x/", {"x": NEW, **below("x", UNPACKED)}, context={"t": packed(TAR, "gz")}),
    Rule("ADD bzip2", "ADD t /link", below("there", UNPACKED), context={"t": packed(TAR, "bz2")}),
    Rule(
        "ADD xz",
        "ADD t a /there/",
        {"there/a": FILE_A, **below("there", UNPACKED)},
        context={"t": packed(TAR, "xz")},
    ),
    Rule("ADD a tar over a file", "ADD t /file", error="failed to copy files: ", context={"t": packed(TAR)}),
    Rule(
        "ADD no tar", "ADD no.tar.gz /x", {"x": "f 644 0:0 nope @"}, context={"no.tar.gz": "f 644 0:0 nope"}
    ),
    Rule("ADD nothing", "ADD no.tar.gz /x", {"x": "f 644 0:0 @"}, context={"no.tar.gz": "f 644 0:0 "}),
    Rule("ADD half a tar", "ADD t /x", error="failed to copy files: ", context={"t": packed(TAR)[:900]}),
    Rule("COPY a tar", "COPY t /x", {"x": packed(TAR) + " @"}, context={"t": packed(TAR)}),
    Rule(
        "a tar inside",
        "ADD dir /x",
        {"x": NEW, "x/t": packed(TAR) + " @"},
        context={"dir": "d 755 0:0", "dir/t": packed(TAR)},
    ),
]

NEWER = [
    Rule("a dot takes several", "COPY a b .", {"a": FILE_A, "b": "f 755 0:0 bb @"}),
    Rule("up and out", "COPY ../../a /x", {"x": FILE_A}),
    Rule("a destination above the root", "COPY a /../../x", {"x": FILE_A}),
    Rule("special bits", "COPY suid /x", {"x": "f 4755 0:0 ss @"}),
    Rule(
        "a fifo",
        "COPY f /x/",
        {"x": NEW, "x/p": "p 600 0:0 @"},
        context={"f": "d 755 0:0", "f/p": "p 600 0:0"},
    ),
    Rule("a user's group", "COPY --chown=lone a /x", {"x": "f 640 1002:1003 aa @"}),
    Rule(
        "all that is made is chowned", "COPY --chown=5:6 empty /p/q", {"p": "d 755 5:6", "p/q": "d 755 5:6"}
    ),
    Rule(
        "a directory over a file inside",
        "COPY r /",
        error="cannot copy to non-directory: /file",
        context={"r": "d 755 0:0", "r/file": "d 755 0:0"},
    ),
    Rule(
        "a directory over a link inside",
        "COPY r /",
        error="cannot copy to non-directory: /link",
        context={"r": "d 755 0:0", "r/link": "d 755 0:0"},
    ),
    Rule(
        "a file over a directory",
        "COPY r /",
        error="cannot replace to directory /there with file",
        context={"r": "d 755 0:0", "r/there": "f 644 0:0 x"},
    ),
    # --chmod
    Rule("octal", "COPY --chmod=4711 a /x", {"x": "f 4711 0:0 aa @"}),
    Rule(
        "octal for directories too",
        "COPY --chmod=0750 d /x",
        {
            "x": NEW,
            "x/x": "f 750 0:0 xx @",
            "x/y": "f 750 0:0 yy @",
            "x/l": D["l"],
            "x/sub": "d 750 0:0 @",
            "x/sub/z": "f 750 0:0 zz @",
        },
    ),
    Rule(
        "symbolic",
        "COPY --chmod=u=rwX,go=rX d /x",
        {"x": NEW, **below("x", {**D, "x": "f 644 0:0 xx @", "sub": "d 755 0:0 @"})},
    ),
    Rule("symbolic, more", "COPY --chmod=+x,o-r a /x", {"x": "f 751 0:0 aa @"}),
    Rule("no mode", "COPY --chmod=99 a /x", error="invalid chmod parameter: '99'"),
    # --parents
    Rule(
        "parents",
        "COPY --parents d/x d/sub/z /p/",
        {"p": NEW, "p/d": "d 750 0:0 @", "p/d/x": D["x"], "p/d/sub": D["sub"], "p/d/sub/z": D["sub/z"]},
    ),
    Rule(
        "parents of a directory",
        "COPY --parents d/sub /p",
        {"p": NEW, "p/d": "d 750 0:0 @", "p/d/sub": D["sub"], "p/d/sub/z": D["sub/z"]},
    ),
    Rule("a pivot", "COPY --parents d/./sub/z /p/", {"p": NEW, "p/sub": D["sub"], "p/sub/z": D["sub/z"]}),
    Rule(
        "parents by a star",
        "COPY --parents */sub/* /p/",
        {"p": NEW, "p/d": "d 750 0:0 @", "p/d/sub": D["sub"], "p/d/sub/z": D["sub/z"]},
    ),
    Rule(
        "parents by two stars",
        "COPY --parents d/**/z /p/",
        {"p": NEW, "p/d": "d 750 0:0 @", "p/d/sub": D["sub"], "p/d/sub/z": D["sub/z"]},
    ),
    Rule(
        "parents of nothing",
        "COPY --parents d/nothing /p/",
        error=f"COPY failed: {MISSING.format('d/nothing')}",
    ),
    Rule(
        "parents, absolute, of a stage",
        "COPY --parents --from=one /o/./sub /p/",
        {"p": NEW, "p/sub": "d 705 3:4 @", "p/sub/z": "f 644 3:4 zz @"},
        dockerfile=STAGES,
    ),
    # --exclude
    Rule("exclude", "COPY --exclude=x --exclude=sub d /x", {"x": NEW, "x/y": D["y"], "x/l": D["l"]}),
    Rule(
        "exclude below",
        "COPY --exclude=**/z d /x",
        {"x": NEW, **below("x", {path: line for path, line in D.items() if path != "sub/z"})},
    ),
    Rule("exclude of a star", "COPY --exclude=*-2 wild-* /x/", {"x": NEW, "x/wild-1": "f 644 0:0 w1 @"}),
    Rule(
        "exclude but",
        "COPY --exclude=* --exclude=!sub/z d /x",
        {"x": NEW, "x/sub": D["sub"], "x/sub/z": D["sub/z"]},
    ),
    # heredocs
    Rule("a heredoc", "COPY <<EOF /x\nhello\nEOF", {"x": "f 644 0:0 hello\n"}),
    Rule(
        "a heredoc by its name",
        "COPY <<one <<two a /x/\n1\none\n2\ntwo",
        {"x": NEW, "x/one": "f 644 0:0 1\n", "x/two": "f 644 0:0 2\n", "x/a": FILE_A},
    ),
    Rule(
        "a heredoc with a mode",
        "COPY --chmod=755 --chown=app <<'EOF' /x\n$a\nEOF",
        {"x": "f 755 1000:1001 $a\n"},
    ),
    # ADD
    Rule("ADD zstd", "ADD t /x", {"x": NEW, **below("x", UNPACKED)}, context={"t": "zstd"}),
    Rule(
        "ADD a tar, owned",
        "ADD --chown=5:6 t /x",
        {
            "x": "d 755 5:6",
            **below(
                "x",
                {path: line.replace("21:22", "5:6").replace("0:0", "5:6") for path, line in UNPACKED.items()},
            ),
        },
        context={"t": packed(TAR)},
    ),
    Rule(
        "ADD without unpacking",
        "ADD --unpack=false t /x",
        {"x": packed(TAR) + " @"},
        context={"t": packed(TAR)},
    ),
    Rule(
        "a tar that leads out",
        "ADD t /x",
        error="leads out of the root",
        context={"t": packed({"../../../etc/evil": "f 644 0:0 evil"})},
    ),
    Rule(
        "a tar with a link out",
        "ADD t /x",
        {"x": NEW, "x/l": "l 0:0 ../../../../there @", "there/evil": "f 644 0:0 evil @"},
        context={"t": packed({"l": "l 0:0 ../../../../there", "l/evil": "f 644 0:0 evil"})},
    ),
]
