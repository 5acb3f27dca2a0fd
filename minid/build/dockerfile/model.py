"""What a Dockerfile says: immutable records with words as the user wrote them, no behaviour.

"Unexpanded" means that variables, quotes and escapes are still in the word; ``resolve`` makes of such an instruction
one whose words are final. Source: docs.docker.com/reference/dockerfile.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar

_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Location:
    """Lines ``first`` to ``last`` (from 1, both included) of the file ``name``; ``str`` is ``Dockerfile:3``."""

    name: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.name}:{self.first}"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """``<<NAME`` and the lines up to ``NAME``. ``content`` is as written, each line with its newline."""

    name: str
    content: str
    expand: bool = True  # False: a part of the delimiter was quoted
    strip_tabs: bool = False  # <<-
    descriptor: int = 0  # the 3 of 3<<NAME

    @property
    def text(self) -> str:
        """The content as a shell would hand it on: without leading tabs if it was ``<<-``."""
        return _LEADING_TABS.sub("", self.content) if self.strip_tabs else self.content


@dataclass(frozen=True, slots=True)
class ShellForm:
    """A command for the shell of the image, variables and all left to it."""

    text: str


@dataclass(frozen=True, slots=True)
class ExecForm:
    """A command as a list of words that no shell sees."""

    args: tuple[str, ...]


Command = ShellForm | ExecForm


@dataclass(frozen=True, slots=True)
class Script:
    """What a RUN gives to its shell; or, if ``own_interpreter``, a file to execute (it begins with ``#!``)."""

    text: str
    own_interpreter: bool = False
    name: str = ""  # the heredoc's, for the file


@dataclass(frozen=True, slots=True)
class Mount:
    """``RUN --mount=…``, defaults filled in. Before ``resolve``, numbers with variables in them are None."""

    type: str = "bind"  # bind, cache, tmpfs, secret, ssh
    target: str = ""  # "" where the type has a default of its own (ssh) or none is wanted (a secret in env)
    source: str = ""  # "" is the root of ``from_``
    from_: str = ""  # a stage, image or named context; "" is the build context (bind), nothing (cache)
    id: str = ""  # of a cache, a secret, an ssh agent
    sharing: str = "shared"  # of a cache: shared, private, locked
    readonly: bool = False
    mode: int | None = None  # None is the type's default: cache 0755, secret 0400, ssh 0600
    uid: int | None = None  # None is 0
    gid: int | None = None
    required: bool = False
    env: str = ""  # of a secret: the variable that has it
    size_bytes: int | None = None  # of a tmpfs; None is without limit
    raw: str = field(default="", compare=False)  # the option's value as written


@dataclass(frozen=True, slots=True)
class Device:
    """``RUN --device=name[,required]``: a CDI device."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """One ``key=value`` of ENV and LABEL; both unexpanded."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class ArgDefinition:
    """One ``name[=default]`` of ARG; ``default`` is unexpanded, None if there is none."""

    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have. Two are equal when they say the same, wherever they stand."""

    KEYWORD: ClassVar[str] = ""

    location: Location = field(compare=False)
    original: str = field(compare=False)  # lines joined, no comments, no heredoc bodies: as in "Step 1/4 : …"
    keyword: str = field(default="", compare=False)  # as written: "run"
    comments: tuple[str, ...] = field(default=(), compare=False)  # directly above it, without "#"
    has_empty_continuation: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    KEYWORD: ClassVar[str] = "FROM"

    image: str  # unexpanded; global ARGs apply
    platform: str = ""  # unexpanded
    stage_name: str = ""  # as written; ``Stage.name`` is lower case
    as_keyword: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    KEYWORD: ClassVar[str] = "RUN"

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: str = "default"  # default, none, host
    security: str = "sandbox"  # sandbox, insecure
    devices: tuple[Device, ...] = ()

    @property
    def script(self) -> Script | None:
        """What the shell gets to run, heredocs and all; None for the exec form (``command.args``)."""
        if isinstance(self.command, ExecForm):
            return None
        if not self.heredocs:
            return Script(self.command.text)
        only = self.heredocs[0]
        if len(self.heredocs) == 1 and self.has_only_heredoc:
            return Script(only.text, only.text.startswith("#!"), only.name)
        return Script(
            self.command.text + "\n" + "".join(f"{each.content}{each.name}\n" for each in self.heredocs)
        )

    has_only_heredoc: bool = False  # the whole command is ``<<NAME``: the heredoc is the script


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD have in common."""

    sources: tuple[str | Heredoc, ...]  # words are unexpanded; a Heredoc is a file of that name
    destination: str  # unexpanded
    chown: str = ""  # unexpanded
    chmod: str = ""  # unexpanded: octal or symbolic
    link: bool = False
    exclude: tuple[str, ...] = ()  # unexpanded


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    KEYWORD: ClassVar[str] = "COPY"

    from_: str = ""  # a stage's name or number, an image, a named context; "" is the build context
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    KEYWORD: ClassVar[str] = "ADD"

    checksum: str = ""  # unexpanded
    keep_git_dir: bool = False
    unpack: bool | None = None  # None: local archives are, remote ones are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    KEYWORD: ClassVar[str] = "ENV"

    pairs: tuple[Pair, ...]
    is_legacy: bool = field(default=False, compare=False)  # ENV key value


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    KEYWORD: ClassVar[str] = "LABEL"

    pairs: tuple[Pair, ...]
    is_legacy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    KEYWORD: ClassVar[str] = "ARG"

    definitions: tuple[ArgDefinition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    KEYWORD: ClassVar[str] = "USER"

    user: str  # unexpanded: user[:group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    KEYWORD: ClassVar[str] = "WORKDIR"

    path: str  # unexpanded; may be relative to the one before


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    KEYWORD: ClassVar[str] = "SHELL"

    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    KEYWORD: ClassVar[str] = "ENTRYPOINT"

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    KEYWORD: ClassVar[str] = "CMD"

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    KEYWORD: ClassVar[str] = "EXPOSE"

    ports: tuple[str, ...]  # unexpanded: port[-port][/protocol]; one word may expand to several


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    KEYWORD: ClassVar[str] = "VOLUME"

    paths: tuple[str, ...]  # unexpanded


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    KEYWORD: ClassVar[str] = "STOPSIGNAL"

    signal: str  # unexpanded


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """Times in nanoseconds; None is "not given"."""

    KEYWORD: ClassVar[str] = "HEALTHCHECK"

    command: Command | None  # None is HEALTHCHECK NONE
    interval_ns: int | None = None
    timeout_ns: int | None = None
    start_period_ns: int | None = None
    start_interval_ns: int | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    KEYWORD: ClassVar[str] = "ONBUILD"

    trigger: str  # the whole instruction, heredoc bodies included; ``parse_trigger`` reads it


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    KEYWORD: ClassVar[str] = "MAINTAINER"

    author: str


@dataclass(frozen=True, slots=True)
class Stage:
    index: int
    name: str  # lower case; "" without AS
    base: From
    instructions: tuple[Instruction, ...] = ()  # without the FROM


@dataclass(frozen=True, slots=True)
class Directives:
    """The ``# key=value`` comments at the top; ``check`` is as written (``skip=…;error=true``)."""

    syntax: str = ""
    escape: str = "\\"
    check: str = ""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    name: str
    directives: Directives
    args: tuple[Arg, ...]  # before the first FROM: the global scope
    stages: tuple[Stage, ...]  # at least one
    lines: tuple[str, ...] = field(compare=False)  # the source, without line ends

    def find_stage(self, word: str, before: int | None = None) -> Stage | None:
        """The stage with this name (case does not matter) or number, among the first ``before``; the last one wins."""
        stages = self.stages[:before]
        for stage in reversed(stages):
            if stage.name and stage.name == word.lower():
                return stage
        if word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(stages):
            return stages[int(word)]
        return None
