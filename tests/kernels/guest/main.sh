# SPDX-License-Identifier: GPL-2.0-or-later
# The guest's first process once the root is there: what a live test expects of a host, then the job, then the end.
# In /run/results: folders, a path a line that must be visible; job.sh, what is run; log and exit, what became of it.

busybox() { /run/guest/busybox "$@"; }

cd /
busybox mount -t securityfs securityfs /sys/kernel/security
busybox mount -t debugfs debugfs /sys/kernel/debug
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox mount -t bpf bpf /sys/fs/bpf
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r folder; do
	[ -e "$folder" ] && continue
	busybox mkdir -p "$folder" && busybox mount --bind "/run/host$folder" "$folder" || busybox echo "guest: no $folder"
done </run/results/folders
busybox ip link set lo up
busybox hostname guest
busybox echo "guest: ready $(busybox uname -r) after $(busybox cut -d' ' -f1 /proc/uptime) s"
/run/guest/busybox setsid /run/guest/busybox env -i HOME=/tmp LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/bin/bash /run/results/job.sh </dev/null >/run/results/log 2>&1
code=$?
busybox dmesg >/run/results/dmesg
busybox echo $code >/run/results/exit
busybox echo "guest: done after $(busybox cut -d' ' -f1 /proc/uptime) s"
busybox sync
busybox reboot -f
