#!/bin/bash
# After a reboot: the daemon runs, and the containers that their restart policies want.
# shellcheck disable=SC2016  # what is for other shells
set -u
# shellcheck source=tests/vm/checks.sh
source "$(dirname "$0")/checks.sh"

check "the daemon has been started at boot" within 90 systemctl is-active -q minid.service
check "restart always: runs again" within 30 is_running always
check "restart unless-stopped: runs again" within 30 is_running unless-stopped
check "unless-stopped, stopped by hand: does not run" gives false state Running stopped
check "restart no: does not run" gives false state Running never
check "they can be managed" gives "exec works" minictl exec always echo exec works
# The last stop of the boot before, up to its last message: at most the ten seconds that a container has after SIGTERM, and some.
check "the shutdown before was quick" bash -c 'journalctl -q -b -1 -o short-unix |
    awk "/Stopping minid.service/ { from = \$1 } { last = \$1 } END { print last - from \" s\"; exit !(from && last - from < 25) }"'
check "rm -f" minictl rm -f always unless-stopped stopped never
check "stop" systemctl stop minid.service minid.socket
check "the scope is gone with the last container" within 10 test ! -e "$scope"
check "no mounts are left" bash -c '! grep -F /var/lib/minid/ /proc/self/mountinfo'
check "no processes are left" bash -c '! pgrep -f "^minid: "'
check "scripts/quickstart --remove" scripts/quickstart --remove --keep-packages
check "nothing is left" bash -c '! ls -d /opt/minid /var/lib/minid /run/minid /etc/systemd/system/minid.* /usr/local/bin/mini* 2>/dev/null'
finish
