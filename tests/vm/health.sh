#!/bin/bash
# Health checks and stats on cgroup v2, where processes are born in their cgroup and killed by it. Run in the machine of
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

check "the tests' tools" install
uname -r
stat -f -c %T /sys/fs/cgroup
check "cgroups inside cgroups" tests tests/system/test_kernel_cgroups.py -k inside
check "stats" tests tests/conformance/test_stats.py
check "health checks" tests tests/conformance/test_health.py
check "health checks and the daemon's ends" tests tests/system/test_health.py
finish
