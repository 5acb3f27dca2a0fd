#!/bin/bash
# Networks on Debian's own kernel, which has the drivers that the kernel of a CI machine may lack: macvlan, ipvlan, VLANs,
# SCTP. Run in the machine of scripts/vm:
#
#   scripts/vm run --timeout 3000 bash tests/vm/networks.sh
set -u
# shellcheck source=tests/vm/checks.sh
source "$(dirname "$0")/checks.sh"

export MINID_TEST_START_S=600
python=/opt/minid/venv/bin/python
install() {
    "$python" -m pip --quiet --disable-pip-version-check install --no-index --find-links /opt/wheels \
        pytest pytest-asyncio pytest-timeout hypothesis dnslib docker
}
# tests FILE… – with pytest; an emulated machine is slow, so nothing is said about time.
tests() { "$python" -m pytest -q -rs -p no:cacheprovider -o timeout=1500 --timeout 1500 "$@"; }
none_skipped() {
    local output
    output=$(tests "$@") || { echo "$output" && return 1; }
    echo "$output"
    ! grep -q SKIPPED <<<"$output"
}

check "the tests' tools" install
modprobe -a macvlan ipvlan 8021q dummy sctp br_netfilter 2>/dev/null
uname -r
check "macvlan, ipvlan, VLANs and SCTP, with traffic" none_skipped tests/system/test_vlan_networks.py
MINID_TEST_MANY=${MINID_TEST_MANY:-200} check "names of many containers" tests tests/system/test_names_of_many.py
check "the default network with IPv6" tests tests/system/test_default_network.py
check "links where icc is off" tests tests/conformance/test_links.py
check "names" tests tests/system/test_names.py
finish
