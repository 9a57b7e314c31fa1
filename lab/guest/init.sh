#!/bin/busybox sh
# First program in the lab's VM (from the initramfs): makes the host's / the root, writable through an overlay in
# memory, and goes on there. The host's own files are exported read-only and cannot change.
bb=/bin/busybox
die() { $bb echo "lab: $*" >/dev/console; $bb echo b >/proc/sysrq-trigger; $bb sleep 60; }

$bb mkdir -p /proc /sys /dev /lower /upper /newroot
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
# From here on a VM that dies is not booted again.
$bb echo "guest: init has begun" >/dev/console
for module in /modules/*; do
    $bb insmod "$module" || die "cannot load $module"
done
$bb mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /lower || die "cannot mount the host's /"
$bb mount -t tmpfs upper /upper
$bb mkdir /upper/files /upper/work
$bb mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /newroot || die "cannot overlay"
# /tmp stays the host's, below the overlay: the checkout or the cache may be there.
for dir in proc sys dev run tmp; do $bb mkdir -p /newroot/$dir; done
$bb mount -t tmpfs run /newroot/run
$bb mkdir /newroot/run/lab
$bb mount -t 9p -o trans=virtio,version=9p2000.L,rw,cache=none,msize=262144 lab /newroot/run/lab || die "cannot mount the share"
$bb mount --move /proc /newroot/proc
$bb mount --move /sys /newroot/sys
$bb mount --move /dev /newroot/dev
exec $bb switch_root /newroot /bin/sh /run/lab/guest.sh
die "cannot start /run/lab/guest.sh"
