#!/bin/bash
# Install minid, run a container, upgrade, manage that container, remove, install again, purge. Run by test_install.py, in a
# view of this machine of its own: nothing of it is seen outside.
#
#   install_story.sh CHECKOUT ROOTFS.tar
set -eu
checkout=$1
archive=$2

say() { printf '== %s\n' "$*"; }
fail() {
    echo "FAILED: $*"
    tail -n 20 /var/log/minid.log
    exit 1
}
start_daemon() {
    setsid unshare --net minid >>/var/log/minid.log 2>&1 </dev/null &
    for _ in {1..200}; do
        minictl version >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "the daemon does not answer"
}
stop_daemon() {
    local pid
    pid=$(cat /run/minid/minid.pid)
    kill -TERM "$pid"
    wait "$pid" 2>/dev/null || true
}

say install
"$checkout/scripts/install"
for file in /usr/local/bin/minid /usr/local/bin/minictl /etc/systemd/system/minid.service /etc/systemd/system/minid.socket \
    /etc/minid/minid.yaml /usr/local/share/man/man8/minid.8.gz /usr/local/share/man/man5/minid.yaml.5.gz \
    /usr/local/share/man/man1/minictl.1.gz /usr/local/share/bash-completion/completions/minictl; do
    [ -s "$file" ] || fail "$file is missing"
done
getent group minid >/dev/null || fail "no group"

say again
touch /tmp/before
"$checkout/scripts/install" | grep -q "programs: up to date" || fail "not up to date"
changed=$(find /etc/minid /etc/systemd/system /usr/local/share/man /usr/local/share/bash-completion -newer /tmp/before -type f)
[ -z "$changed" ] || fail "written again: $changed"

say run
echo "bridge: none" >>/etc/minid/minid.yaml
start_daemon
minictl import "$archive" busybox >/dev/null
minictl run -d --name lives --network none busybox sh -c 'echo first; while :; do sleep 1; done' >/dev/null
pid=$(minictl inspect --format '{{.State.Pid}}' lives)
minictl system doctor | grep "storage driver" || fail "no doctor"

say upgrade
cp -r "$checkout" /tmp/newer
sed -i 's/^__version__ = .*/__version__ = "0.1.1"/' /tmp/newer/minid/__init__.py
/tmp/newer/scripts/install
[ "$(minid --version | cut -d ' ' -f 3)" = 0.1.1, ] || fail "not upgraded"
grep -qx "bridge: none" /etc/minid/minid.yaml || fail "the configuration was replaced"
kill -0 "$pid" || fail "the container ended"
stop_daemon
start_daemon
minictl version --format '{{.Server.Version}}' | grep -qx 0.1.1 || fail "the old daemon runs"
[ "$(minictl inspect --format '{{.State.Pid}}' lives)" = "$pid" ] || fail "another process"
[ "$(minictl exec lives echo works)" = works ] || fail "exec"
[ "$(minictl logs lives)" = first ] || fail "logs"

say remove
/tmp/newer/scripts/install --remove
if [ -e /usr/local/bin/minid ] || [ -e /etc/systemd/system/minid.service ]; then fail "programs are left"; fi
if [ ! -e /var/lib/minid/minid.db ] || [ ! -e /etc/minid/minid.yaml ]; then fail "data or configuration are gone"; fi
kill -0 "$pid" || fail "the container ended"
if "$checkout/scripts/install" --purge 2>/tmp/refused; then fail "purged under a running container"; fi
grep -q "only a running daemon can remove" /tmp/refused || fail "$(cat /tmp/refused)"

say "install and purge"
/tmp/newer/scripts/install
start_daemon
minictl stop -t 0 lives
/tmp/newer/scripts/install --purge
for path in /opt/minid /usr/local/bin/minid /usr/local/bin/minictl /etc/minid /etc/systemd/system/minid.socket /run/minid \
    /usr/local/share/man/man8/minid.8.gz /usr/local/share/bash-completion/completions/minictl; do
    [ ! -e "$path" ] || fail "$path is left"
done
[ -z "$(ls -A /var/lib/minid 2>/dev/null)" ] || fail "data is left"
if getent group minid >/dev/null; then fail "the group is left"; fi
say "done"
