#!/bin/bash
# Install minid, run containers with limits, and do to the daemon all that systemctl can.
# shellcheck disable=SC2016,SC2317  # what is for the containers' shells; functions that `check` calls
set -u
# shellcheck source=tests/vm/checks.sh
source "$(dirname "$0")/checks.sh"

check "systemd is process 1" gives systemd cat /proc/1/comm
check "cgroup v2 only" gives cgroup2fs stat -f -c %T /sys/fs/cgroup

# Installation
check "scripts/quickstart" scripts/quickstart
check "systemd runs the daemon" systemctl is-active minid.service minid.socket
check "the socket is root's and minid's, 0660" gives "root minid 660" stat -c '%U %G %a' /run/minid/minid.sock

# Limits
out_of_memory() {
    minictl run --name oom --network none --memory 32m "$image" tail /dev/zero || true
    [ "$(state OOMKilled oom) $(state ExitCode oom)" = "true 137" ]
}
check "memory: an OOM kill is reported" out_of_memory
check "memory: the limit is memory.max" gives 33554432 run --memory 32m "$image" cat /sys/fs/cgroup/memory.max
many_processes() {
    run --pids-limit 8 "$image" sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all' 2>&1 | grep -i "can't fork"
}
check "pids: more processes than allowed cannot be forked" many_processes
check "cpu: --cpus is cpu.max" gives "20000 100000" run --cpus 0.2 "$image" cat /sys/fs/cgroup/cpu.max
throttled() {
    run --cpus 0.1 "$image" sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
        grep nr_throttled /sys/fs/cgroup/cpu.stat' | awk '{ print; exit !($2 > 0) }'
}
check "cpu: a busy container is throttled" throttled
check "cpuset: it sees the one CPU" gives "Cpus_allowed_list:	1" run --cpuset-cpus 1 "$image" \
    grep Cpus_allowed_list /proc/self/status

# Devices
denied() { run "$image" sh -c 'mknod /tmp/vda b 254 0 && dd if=/tmp/vda of=/dev/null count=1' 2>&1 | grep "Operation not permitted"; }
check "devices: one that is not allowed is EPERM" denied
check "devices: /dev/null is writable" run "$image" sh -c 'echo x >/dev/null'
check "devices: --device allows it" run --device /dev/vda:/dev/vda:r "$image" dd if=/dev/vda of=/dev/null count=1
read_only() { run --device /dev/vda:/dev/vda:r "$image" sh -c 'echo x >>/dev/vda' 2>&1 | grep "Operation not permitted"; }
check "devices: not more than its mode says" read_only

# Containers that live on
start_one() { minictl run -d --name "$1" --network none "${@:2}" "$image" sh -c 'n=0; while :; do echo $n; n=$((n+1)); sleep 1; done'; }
check "run -d" start_one lives --memory 64m --pids-limit 50
check "run -d --restart always" start_one always --restart always
check "run -d --restart unless-stopped" start_one unless-stopped --restart unless-stopped
check "run -d --restart no" start_one never
pid=$(pid_of lives)
in_the_scope() { grep -x "0::/system.slice/minid-containers.scope/containers/$(minictl inspect --format '{{.Id}}' lives)" "/proc/$pid/cgroup"; }
check "its cgroup is below the scope of the daemon's containers" in_the_scope
check "the daemon's own cgroup has no controllers for children" gives "" cat "$service/cgroup.subtree_control"
check "the scope has them" grep -w memory "$scope/containers/cgroup.subtree_control"
still_the_same() {
    minictl version >/dev/null && is_running lives && [ "$(pid_of lives)" = "$pid" ] &&
        [ "$(minictl exec lives echo exec works)" = "exec works" ] && minictl logs --tail 1 lives | grep -q '[0-9]' &&
        minictl exec lives cat /sys/fs/cgroup/memory.max | grep -qx 67108864
}
check "exec, logs, inspect work" still_the_same
check "systemctl reload" systemctl reload minid
check "reload: all as before" still_the_same
check "systemctl restart" systemctl restart minid
check "restart: all as before" still_the_same
old=$(main_pid)
check "systemctl kill -s KILL" systemctl kill -s KILL minid
another_daemon() { [ "$(main_pid)" != 0 ] && [ "$(main_pid)" != "$old" ] && systemctl is-active -q minid.service; }
check "kill: systemd starts it again" within 90 another_daemon
check "kill: all as before" still_the_same
check "systemctl stop" systemctl stop minid.service minid.socket
check "stop: the container runs, the daemon does not" bash -c "kill -0 $pid && ! systemctl is-active -q minid.service"
check "daemon-reload and daemon-reexec" bash -c 'systemctl daemon-reload && systemctl daemon-reexec'
check "systemctl start minid.socket: a client starts the daemon" bash -c 'systemctl start minid.socket && minictl version'
check "start: all as before" still_the_same

# Its clients
check "pause, unpause" bash -c 'minictl pause lives && grep -x 1 '"$scope"'/containers/*/cgroup.freeze && minictl unpause lives'
export DOCKER_HOST=unix:///run/minid/minid.sock
check "docker: run" gives "from docker" docker run --rm --network none "$image" echo from docker
check "docker: exec" gives "exec" docker exec lives echo exec
check "docker: ps" bash -c 'docker ps --format "{{.Names}}" | grep -x lives'
unset DOCKER_HOST
check "stop, and its exit status" bash -c 'minictl stop -t 1 lives && [ "$(minictl wait lives)" = 137 ]'
check "rm" minictl rm lives oom
check "its cgroup is gone" bash -c '[ "$(find '"$scope"'/containers -mindepth 1 -maxdepth 1 -type d ! -name "probe-*" | wc -l)" = 3 ]'

check "nothing of minid's has failed" bash -c '! systemctl --failed --plain --no-legend | grep minid'
check "stop unless-stopped's sibling by hand" bash -c "minictl run -d --name stopped --restart unless-stopped --network none $image sleep 1000 &&
    minictl stop -t 1 stopped"
finish
