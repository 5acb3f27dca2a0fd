"""network create, ls, rm, connect, disconnect and prune (inspect is with the other inspects)."""

from __future__ import annotations

from minictl import table
from minictl.engine import Engine, segment
from minictl.environment import pairs
from minictl.errors import ApiError, ConnectError, Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def create(options: Options, arguments: list[str], engine: Engine) -> int:
    body = {
        "Name": arguments[0],
        "Driver": options["driver"],
        "Scope": options["scope"],
        "IPAM": {
            "Driver": options["ipam-driver"],
            "Options": pairs(options["ipam-opt"]),
            "Config": _ipam_config(options),
        },
        "Internal": options["internal"],
        "Attachable": options["attachable"],
        "Ingress": options["ingress"],
        "ConfigOnly": options["config-only"],
        "ConfigFrom": {"Network": options["config-from"]} if options["config-from"] else None,
        "Options": pairs(options["opt"]),
        "Labels": pairs(options["label"]),
    }
    if options.given("ipv6"):
        body["EnableIPv6"] = options["ipv6"]
    print(engine.call("POST", "/networks/create", None, body)["Id"])
    return 0


def _ipam_config(options: Options) -> list[dict[str, Any]]:
    """Subnets, each with the gateway, range and auxiliary addresses that lie in it."""
    import ipaddress

    def network(text: str) -> Any:
        try:
            return ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise Failure(f"invalid subnet {text}: invalid CIDR address: {text}") from None

    subnets = options["subnet"]
    given = options["ip-range"] or options["gateway"] or options["aux-address"]
    if given and not subnets:
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    config: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        for other in config:
            if network(subnet).version == network(other).version and network(subnet).overlaps(network(other)):
                raise Failure("multiple overlapping subnet configuration is not supported")
        config[subnet] = {"Subnet": subnet}
    for text in options["ip-range"]:
        wanted = network(text)
        _place(config, network, text, wanted.network_address, "IPRange", "range")
    for text in options["gateway"]:
        _place(config, network, text, _address(text), "Gateway", "gateway")
    for name, text in pairs(options["aux-address"]).items():
        address = _address(text)
        for subnet, entry in config.items():
            if address in network(subnet):
                entry.setdefault("AuxiliaryAddresses", {})[name] = text
                break
        else:
            raise Failure(f"no matching subnet for aux-address {text}")
    return list(config.values())


def _place(
    config: dict[str, dict[str, Any]],
    network: Callable[[str], Any],
    text: str,
    address: Any,
    key: str,
    word: str,
) -> None:
    for subnet, entry in config.items():
        if address in network(subnet):
            if key in entry:
                words = "ranges" if word == "range" else "gateways"
                raise Failure(
                    f"cannot configure multiple {words} ({text}, {entry[key]}) on the same subnet ({subnet})"
                )
            entry[key] = text
            return
    raise Failure(f"no matching subnet for {word} {text}")


def _address(text: str) -> Any:
    import ipaddress

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Failure(f"invalid address {text}") from None


def ls(options: Options, arguments: list[str], engine: Engine) -> int:
    networks = engine.call("GET", "/networks", {"filters": parse_filters(options["filter"])}) or []
    networks.sort(key=lambda network: network["Name"])
    if options["quiet"] and not options["format"]:
        ids = (network["Id"] if options["no-trunc"] else network["Id"][:12] for network in networks)
        table.write("".join(f"{identifier}\n" for identifier in ids))
        return 0
    template = options["format"] or table.config_format("networksFormat")
    shown = ("ID", "Name", "Driver", "Scope")
    table.show(networks, _fields(whole=options["no-trunc"]), _HEADERS, shown, template)
    return 0


def _fields(*, whole: bool) -> dict[str, Callable[[Any], Any]]:
    return {
        "ID": lambda n: n["Id"] if whole else n["Id"][:12],
        "Name": lambda n: n["Name"],
        "Driver": lambda n: n["Driver"],
        "Scope": lambda n: n["Scope"],
        "IPv4": lambda n: str(bool(n.get("EnableIPv4", False))).lower(),
        "IPv6": lambda n: str(bool(n["EnableIPv6"])).lower(),
        "Internal": lambda n: str(bool(n["Internal"])).lower(),
        "Labels": lambda n: ",".join(
            f"{key}={value}" for key, value in sorted((n.get("Labels") or {}).items())
        ),
        "Label": lambda n: lambda name: (n.get("Labels") or {}).get(name, ""),
        "CreatedAt": lambda n: _created(n["Created"]),
    }


def _created(text: str) -> str:
    """As Go prints a time: 2026-11-23 15:04:05.123456789 +0000 UTC."""
    day, _, rest = text.partition("T")
    return f"{day} {rest.removesuffix('Z')} +0000 UTC"


def rm(options: Options, arguments: list[str], engine: Engine) -> int:
    problems = []
    for name in arguments:
        try:
            engine.call("DELETE", f"/networks/{segment(name)}")
            print(name)
        except ApiError as error:
            if not (options["force"] and error.http_status == 404):
                problems.append(error.message)
        except ConnectError as error:
            problems.append(error.message)
    if problems:
        raise Failure("\n".join(problems))
    return 0


def connect(options: Options, arguments: list[str], engine: Engine) -> int:
    network, container = arguments
    addresses = {
        key: options[flag]
        for key, flag in (("IPv4Address", "ip"), ("IPv6Address", "ip6"), ("LinkLocalIPs", "link-local-ip"))
        if options[flag]
    }
    settings: dict[str, Any] = {
        "IPAMConfig": addresses,
        "Links": options["link"] or None,
        "Aliases": options["alias"],
        "MacAddress": "",
        "DriverOpts": pairs(options["driver-opt"]),
        "GwPriority": options["gw-priority"],
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
    body = {"Container": container, "EndpointConfig": settings}
    engine.call("POST", f"/networks/{segment(network)}/connect", None, body)
    return 0


def disconnect(options: Options, arguments: list[str], engine: Engine) -> int:
    network, container = arguments
    body = {"Container": container, "Force": options["force"]}
    engine.call("POST", f"/networks/{segment(network)}/disconnect", None, body)
    return 0


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    warning = "This will remove all custom networks not used by at least one container."
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("network prune has been cancelled")
    answer = engine.call("POST", "/networks/prune", {"filters": parse_filters(options["filter"])})
    deleted = answer.get("NetworksDeleted") or []
    if deleted:
        table.write("Deleted Networks:\n" + "".join(f"{name}\n" for name in deleted) + "\n")
    return 0


CREATE = Command(
    "network create",
    "[OPTIONS] NETWORK",
    "Create a network",
    create,
    (
        ("attachable", "", "bool", "Let containers be attached by hand (swarm)"),
        ("aux-address", "", "map", "An address never to give out (name=ADDRESS)"),
        ("config-from", "", "string", "Network to copy the configuration from"),
        ("config-only", "", "bool", "Create only a configuration"),
        ("driver", "d", "string", "Driver of the network: bridge, macvlan or ipvlan", "bridge"),
        ("gateway", "", "strings", "Gateway of a subnet"),
        ("ingress", "", "bool", "Create a network for swarm services"),
        ("internal", "", "bool", "No way out of the network"),
        ("ip-range", "", "strings", "Range of a subnet that addresses are chosen from"),
        ("ipam-driver", "", "string", "Driver for the addresses", "default"),
        ("ipam-opt", "", "map", "Set an option of the driver for the addresses"),
        ("ipv6", "", "bool", "Give IPv6 addresses too"),
        ("label", "", "list", "Set a label (key=value)"),
        ("opt", "o", "map", "Set an option of the driver (key=value)"),
        ("scope", "", "string", "Where the network is known"),
        ("subnet", "", "strings", "Addresses of the network (CIDR)"),
    ),
    1,
    1,
)
LS = Command(
    "network ls",
    "[OPTIONS]",
    "List networks",
    ls,
    (
        ("filter", "f", "list", "Show only what fits (driver=…, name=…, id=…, label=…, dangling=…, type=…)"),
        ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
        ("no-trunc", "", "bool", "Print whole ids"),
        ("quiet", "q", "bool", "Print only ids"),
    ),
    0,
    0,
)
RM = Command(
    "network rm",
    "NETWORK [NETWORK...]",
    "Remove one or more networks that no container is in",
    rm,
    (("force", "f", "bool", "Don't mind networks that don't exist"),),
    1,
)
CONNECT = Command(
    "network connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    connect,
    (
        ("alias", "", "strings", "Another name of the container in the network"),
        ("driver-opt", "", "strings", "Set an option of the driver (key=value)"),
        ("gw-priority", "", "int", "The network with the highest leads out"),
        ("ip", "", "string", "IPv4 address of the container in the network"),
        ("ip6", "", "string", "IPv6 address of the container in the network"),
        ("link", "", "list", "Know another container by another name (CONTAINER:NAME)"),
        ("link-local-ip", "", "strings", "Link-local address of the container"),
    ),
    2,
    2,
)
DISCONNECT = Command(
    "network disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    disconnect,
    (("force", "f", "bool", "Disconnect it in any case"),),
    2,
    2,
)
PRUNE = Command(
    "network prune",
    "[OPTIONS]",
    "Remove the networks that no container is in",
    prune,
    (
        ("filter", "", "list", "Remove only what fits (label=…, until=…)"),
        ("force", "f", "bool", "Don't ask"),
    ),
    0,
    0,
)
