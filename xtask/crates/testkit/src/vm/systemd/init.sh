#!/bin/busybox sh
# The first process of a VM with a disk: prepares the disk's root for this boot and hands over
# to the systemd on it. What is put in /run is gone with the boot.
/bin/busybox --install -s /bin
export PATH=/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run

fail() {
	echo "$1" >/dev/ttyS1
	printf '\nvm-exit 125\n' >/dev/ttyS1
	poweroff -f
}

for module in /vm/modules/*.ko; do
	insmod "$module" || fail "can't load $module"
done

mkdir -p /disk /run/vm /run/systemd/system/multi-user.target.wants
mount -t ext4 /dev/vda /disk || fail "can't mount the disk"
cp -a /vm/files/. /disk/ || fail "can't copy the files to the disk"
cp /vm/script /vm/report /run/vm/
cp /vm/vm-script.service /run/systemd/system/
ln -s ../vm-script.service /run/systemd/system/multi-user.target.wants/

umount /proc /sys
mount --move /dev /disk/dev
mount --move /run /disk/run
exec switch_root /disk /sbin/init
