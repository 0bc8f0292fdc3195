#!/bin/busybox sh
# Level 2's only process: prints what its kernel sees of PCI, and whether the devices work.
B=/bin/busybox
$B mount -t proc p /proc
$B mount -t sysfs s /sys
$B mount -t devtmpfs d /dev
# Without a process a function: emulated twice, a process takes a third of a second.
for link in /sys/bus/pci/devices/*; do
    cd -P "$link" || continue
    d=${link##*/}
    read -r vendor <vendor
    read -r device <device
    [ "$vendor$device" = 0x1b360x000c ] && continue # a root port
    read -r node <numa_node
    echo "guest-pci $d ${vendor#0x}:${device#0x} node=$node path=${PWD#/sys/devices/}"
    if [ "$vendor$device" = 0x12340x11e8 ]; then
        # QEMU docs/specs/edu: what is written at 4 is read back inverted. Its memory is enabled in
        # the command register: `enable` would have ACPI route an interrupt too, which takes long.
        echo -en '\002' | $B dd of=config bs=1 seek=4 conv=notrunc 2>/dev/null
        read -r bar _ <resource
        $B devmem $((bar + 4)) 32 0x12345678
        echo "guest-edu $d $($B devmem $((bar + 4)) 32)"
    fi
done
for disk in /dev/nvme*n1; do
    [ -b "$disk" ] && echo "guest-nvme $($B head -c 64 "$disk" | $B tr -d '\0')"
done
echo guest-done
$B poweroff -f
