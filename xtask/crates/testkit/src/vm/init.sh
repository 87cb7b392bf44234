#!/bin/busybox sh
# The first process of a VM without a disk: sets the scene, runs /vm/script, reports how it
# ended and switches off. The script's serial port is named by the kernel's parameter `script_port`.
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/null >"/dev/$script_port" 2>&1

finish() {
	printf '\nvm-exit %s\n' "$1"
	# Returns when everything has left the port.
	stty -F "/dev/$script_port" cs8
	poweroff -f
}

ln -s /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf || finish 125
mount -t cgroup2 cgroup2 /sys/fs/cgroup || finish 125
ifconfig lo up || finish 125

for module in /vm/modules/*.ko; do
	insmod "$module" || { echo "can't load $module"; finish 125; }
done

cd /root || finish 125
/bin/sh /vm/script
finish $?
