# For the second stage: loads hisi_acc_vfio_pci over simulated hardware and binds VFs to it, closed and ready.
# $LAB_ZIP, $LAB_SEC and $LAB_HPRE tell their names. Failures are told on standard error.
hisi_vfs() {
    pf=/sys/bus/pci/devices/$1
    echo "$2" >"$pf/sriov_numvfs" || return
    for link in "$pf"/virtfn*; do
        vf=$(readlink "$link")
        vf=${vf##*/}
        echo hisi_acc_vfio_pci >"/sys/bus/pci/devices/$vf/driver_override" || return
        echo "$vf" >/sys/bus/pci/drivers_probe || return
        [ -e "/sys/bus/pci/devices/$vf/driver" ] || { echo "the driver does not take $vf" >&2; return 1; }
        echo "$vf"
    done
}

# The simulated interrupts need no remapping: there are none.
modprobe vfio_iommu_type1 allow_unsafe_interrupts=1 && modprobe hisi_acc_vfio_pci || return
LAB_ZIP=$(hisi_vfs 1000:75:00.0 3) && LAB_SEC=$(hisi_vfs 1000:75:01.0 1) && LAB_HPRE=$(hisi_vfs 1000:75:02.0 1) || return
export LAB_ZIP LAB_SEC LAB_HPRE
