#!/bin/bash
# Health checks on cgroup v2, where processes are born in their cgroup and killed by it. Run in the machine of
# scripts/vm:
#
#   scripts/vm run --timeout 1800 bash tests/vm/health.sh
set -u
# shellcheck source=tests/vm/checks.sh
source "$(dirname "$0")/checks.sh"

python=/opt/minid/venv/bin/python
install() {
    "$python" -m pip --quiet --disable-pip-version-check install --no-index --find-links /opt/wheels \
        pytest pytest-asyncio pytest-timeout hypothesis docker jsonschema
}
# tests FILE… – with pytest; an emulated machine is slow, so nothing is said about time.
tests() { "$python" -m pytest -q -rs -p no:cacheprovider -o timeout=600 --timeout 600 "$@"; }

# The machine's own copy of the tests, with times that an emulated machine can keep.
sed -i 's/"Timeout": SECOND \/\/ 2/"Timeout": 8 * SECOND/; s/500ms/8s/' tests/conformance/test_health.py
sed -i 's/^TIMEOUT_S = 30/TIMEOUT_S = 200/' tests/wire.py
export MINID_TEST_START_S=600
check "the tests' tools" install
uname -r
stat -f -c %T /sys/fs/cgroup
check "cgroups inside cgroups" tests tests/system/test_kernel_cgroups.py -k inside
check "health checks" tests tests/conformance/test_health.py -k "too_long or as_an_exec or stays"
finish
