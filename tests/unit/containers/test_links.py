"""What a container is told about one that it is linked to: compared with what dockerd 20.10 told."""

from minid.containers.links import exposed, variables
from minid.containers.model import ContainerConfig
from tests.unit.api.double import container

# dockerd 20.10.24: docker run -d --name db --expose 53/tcp --expose 53/udp … -e A=b … sleep; docker run --link db:q … env
TOLD = """\
Q_PORT=udp://172.17.0.2:1
Q_PORT_1_UDP_START=udp://172.17.0.2:1
Q_PORT_1_UDP_ADDR=172.17.0.2
Q_PORT_1_UDP_PROTO=udp
Q_PORT_1_UDP_PORT_START=1
Q_PORT_1_UDP_END=udp://172.17.0.2:3
Q_PORT_1_UDP_PORT_END=3
Q_PORT_80_TCP_START=tcp://172.17.0.2:80
Q_PORT_80_TCP_ADDR=172.17.0.2
Q_PORT_80_TCP_PROTO=tcp
Q_PORT_80_TCP_PORT_START=80
Q_PORT_80_TCP_END=tcp://172.17.0.2:82
Q_PORT_80_TCP_PORT_END=82
Q_PORT_1_UDP=udp://172.17.0.2:1
Q_PORT_1_UDP_PORT=1
Q_PORT_2_UDP=udp://172.17.0.2:2
Q_PORT_2_UDP_ADDR=172.17.0.2
Q_PORT_2_UDP_PORT=2
Q_PORT_2_UDP_PROTO=udp
Q_PORT_3_UDP=udp://172.17.0.2:3
Q_PORT_3_UDP_ADDR=172.17.0.2
Q_PORT_3_UDP_PORT=3
Q_PORT_3_UDP_PROTO=udp
Q_PORT_9_SCTP=sctp://172.17.0.2:9
Q_PORT_9_SCTP_ADDR=172.17.0.2
Q_PORT_9_SCTP_PORT=9
Q_PORT_9_SCTP_PROTO=sctp
Q_PORT_53_TCP=tcp://172.17.0.2:53
Q_PORT_53_TCP_ADDR=172.17.0.2
Q_PORT_53_TCP_PORT=53
Q_PORT_53_TCP_PROTO=tcp
Q_PORT_53_UDP=udp://172.17.0.2:53
Q_PORT_53_UDP_ADDR=172.17.0.2
Q_PORT_53_UDP_PORT=53
Q_PORT_53_UDP_PROTO=udp
Q_PORT_80_TCP=tcp://172.17.0.2:80
Q_PORT_80_TCP_PORT=80
Q_PORT_80_UDP=udp://172.17.0.2:80
Q_PORT_80_UDP_ADDR=172.17.0.2
Q_PORT_80_UDP_PORT=80
Q_PORT_80_UDP_PROTO=udp
Q_PORT_81_UDP=udp://172.17.0.2:81
Q_PORT_81_UDP_ADDR=172.17.0.2
Q_PORT_81_UDP_PORT=81
Q_PORT_81_UDP_PROTO=udp
Q_PORT_82_TCP=tcp://172.17.0.2:82
Q_PORT_82_TCP_ADDR=172.17.0.2
Q_PORT_82_TCP_PORT=82
Q_PORT_82_TCP_PROTO=tcp
Q_NAME=/web/q
""".splitlines()
PORTS = (
    "53/tcp",
    "53/udp",
    "80/tcp",
    "80/udp",
    "81/udp",
    "82/tcp",
    "1/udp",
    "2/udp",
    "3/udp",
    "9/sctp",
)


def test_ports_one_by_one_and_in_rows():
    other = container(config=ContainerConfig(exposed_ports={port: {} for port in PORTS}))
    assert variables("web", "q", "172.17.0.2", other) == TOLD


def test_two_ports_are_no_row():
    other = container(config=ContainerConfig(exposed_ports={"7000-7001/udp": {}}))
    names = [variable.partition("=")[0] for variable in variables("web", "q", "1.2.3.4", other)]
    assert not [name for name in names if name.endswith(("_START", "_END"))]
    assert exposed(other) == [(7000, "udp"), (7001, "udp")]


def test_its_environment_but_not_all_of_it():
    env = ("PATH=/bin", "A=b", "X=1=2", "HOME=/h", "EMPTY=", "NOTHING")
    told = variables("web", "my-db.x", "1.2.3.4", container(config=ContainerConfig(env=env)))
    assert told == ["MY_DB.X_NAME=/web/my-db.x", "MY_DB.X_ENV_A=b", "MY_DB.X_ENV_X=1=2", "MY_DB.X_ENV_EMPTY="]
