"""``--security-opt``: what the strings of ``HostConfig.SecurityOpt`` mean. Pure."""

from dataclasses import dataclass

from minid.containers.model import HostConfig
from minid.errors import InvalidParameter

TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """``seccomp``: "" the default profile, "unconfined", or a profile's JSON text; ``apparmor`` a profile's
    name.
    """

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    label: tuple[str, ...] = ()
    writable_cgroups: bool = False


def parse(host_config: HostConfig) -> SecurityOptions:
    """The options of ``host_config``; a privileged container is unconfined unless it names a profile.

    Raises InvalidParameter for an option that does not exist or has a wrong value.
    """
    no_new_privileges = writable_cgroups = False
    seccomp = apparmor = ""
    label: list[str] = []
    for option in host_config.security_opt or ():
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":
            label.append("disable")
            continue
        # "key:value" is Docker's older spelling.
        key, separator, value = option.partition("=" if "=" in option else ":")
        if not separator:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "label":
            label.append(value)
        elif key == "apparmor":
            apparmor = value
        elif key == "seccomp":
            seccomp = "" if value == "builtin" else value
        elif key == "no-new-privileges" and value in TRUE | FALSE:
            no_new_privileges = value in TRUE
        elif key == "writable-cgroups" and value in TRUE | FALSE:
            writable_cgroups = value in TRUE
        else:
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    if host_config.privileged and not seccomp:
        seccomp = "unconfined"
    return SecurityOptions(no_new_privileges, seccomp, apparmor, tuple(label), writable_cgroups)
