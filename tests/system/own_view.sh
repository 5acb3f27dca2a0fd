#!/bin/bash
# Run a command in a view of this machine of its own: what it writes lands in an overlay that goes with it. To be run with
# `unshare --mount --pid --fork`; DATA is where its /var/lib/minid is (a real file system).
#
#   own_view.sh DIRECTORY DATA COMMAND…
set -eu
top=$1
data=$2
shift 2
root=$top/root
mount -t tmpfs tmpfs "$top"
mkdir "$top"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/var/lib/minid"
mount --bind "$data" "$root/var/lib/minid"
exec chroot "$root" "$@"
