# Debian packages for the scripts: which are missing, and installing those. To be sourced.
# shellcheck shell=bash

# missing_packages PACKAGE… – prints those that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            echo "$package"
        fi
    done
}

# installed_packages – prints all installed packages, sorted.
installed_packages() {
    dpkg-query -W -f='${db:Status-Status} ${binary:Package}\n' | sed -n 's/^installed //p' | sort
}

# install_packages PACKAGE… – without starting any service of theirs: a registry or a daemon that begins to listen on the
# network because somebody ran our tests would be a surprise.
install_packages() {
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    local status=0
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    } || status=$?
    if [ "$made_policy" ]; then
        rm -f "$policy"
    fi
    return "$status"
}
