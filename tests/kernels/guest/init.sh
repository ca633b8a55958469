#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest's first process. The host's root becomes the guest's, read-only, with a tmpfs where things are written.
# There is no overlay: on one, stat(2) and the kernel name the same file by different devices.

fail() {
	busybox echo "guest: $*"
	busybox reboot -f
}

share() { # TAG PLACE OPTIONS
	busybox mount -t 9p -o "$3,trans=virtio,version=9p2000.L,msize=262144,access=any" "$1" "$2" || fail "no share $1"
}

PATH=/bin
busybox mount -t proc proc /proc
while read -r module; do
	busybox insmod "/modules/$module.ko" || busybox echo "guest: no module $module"
done </modules/order
share host /new ro,cache=loose
cd /new || fail "no root"
busybox mount --move /proc proc
busybox mount -t sysfs sysfs sys
busybox mount -t devtmpfs devtmpfs dev
busybox mount -t tmpfs -o mode=0755 run run
busybox mkdir -p dev/pts dev/shm run/guest run/host run/results run/compiled
busybox mount --bind . run/host # as it is without what is mounted over it
for place in tmp var/tmp dev/shm; do
	busybox mount -t tmpfs -o mode=1777 tmpfs $place
done
busybox mount -t devpts devpts dev/pts
busybox ln -s /proc/self/fd dev/fd
busybox ln -s /proc/self/fd/0 dev/stdin
busybox ln -s /proc/self/fd/1 dev/stdout
busybox ln -s /proc/self/fd/2 dev/stderr
busybox cp /bin/busybox /main.sh run/guest
share results run/results rw,cache=none
share compiled run/compiled rw,cache=none
exec busybox switch_root /new /run/guest/busybox sh /run/guest/main.sh
