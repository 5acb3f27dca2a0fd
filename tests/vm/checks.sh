# What the scripts of this directory share. They run as root inside the machine of scripts/vm. To be sourced.
# shellcheck shell=bash
# shellcheck disable=SC2034  # used by those that source it

failures=0
image=localhost:5000/busybox:latest
service=/sys/fs/cgroup/system.slice/minid.service
scope=/sys/fs/cgroup/system.slice/minid-containers.scope

# check NAME COMMAND… – PASS if the command succeeds; what it says is shown if it does not.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "PASS $name"
    else
        echo "FAIL $name (status $?)"
        printf '%s\n' "$output" | tail -n 15 | sed 's/^/     /'
        failures=$((failures + 1))
    fi
}

# gives TEXT COMMAND… – whether the output, standard error included, is that text.
gives() {
    local wanted=$1 output
    shift
    output=$("$@" 2>&1) || true
    [ "$output" = "$wanted" ] || {
        echo "wanted: $wanted"
        echo "got: $output"
        return 1
    }
}


# within SECONDS COMMAND… – until it succeeds.
within() {
    local end=$((EPOCHSECONDS + $1))
    shift
    until "$@"; do
        [ "$EPOCHSECONDS" -lt "$end" ] || return 1
        sleep 0.5
    done
}

run() { minictl run --rm --network none "$@"; }
state() { minictl inspect --format "{{.State.$1}}" "$2"; }
is_running() { [ "$(state Running "$1")" = true ]; }
pid_of() { state Pid "$1"; }
main_pid() { systemctl show --value --property MainPID minid.service; }

finish() { exit $((failures > 0)); }
