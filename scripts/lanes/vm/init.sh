#!/bin/busybox sh
# The initramfs's process 1: finds the guest's root on the first disk and what to do there on the
# second.
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /dev /root
mount -t proc proc /proc
while read -r module; do
    insmod "/modules/$module"
done </modules/order
mount -t devtmpfs dev /dev
mount -t ext4 /dev/vda /root
mount -t ext4 -o ro /dev/vdb /root/lane
ifconfig lo 127.0.0.1 up
umount /dev
umount /proc
exec switch_root /root /lane/guest.sh
