package launcher

import (
	"fmt"
	"path/filepath"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/util/hardware"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"launcher-hook/interop/harness"
)

// What KubeVirt 1.9 writes with its newer features: expander buses with the devices already on them,
// iommufd in each hostdev, and the ACPI nodes of GraceIOVirtualization, whose other parts need a Grace.
func TestVMIsOfClustersWithFeatureGates(t *testing.T) {
	hardware.PciBasePath = filepath.Join(nodeSys, "bus/pci/devices")
	hardware.NodeBasePath = filepath.Join(nodeSys, "bus/node/devices")
	table := newTable("interop-gates", "The same with feature gates of KubeVirt 1.9")
	defer table.Write(t)
	rtx := []v1.GPU{{Name: "gpu0", DeviceName: "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"}}
	for _, gate := range []struct {
		name, vmi string
		pod       Pod
		gpus      []v1.GPU
		change    func(*api.DomainSpec)
	}{
		{"PCINUMAAwareTopology", "dedicated-cpus-hugepages", Pod{PCINUMA: true}, nil, nil},
		{"PCINUMAAwareTopology, with audio", "dedicated-cpus-hugepages", Pod{PCINUMA: true}, rtx, nil},
		{"IOMMUFD", "two-gpus", Pod{IOMMUFD: true}, nil, nil},
		{"IOMMUFD, with audio", "gpu-with-audio", Pod{IOMMUFD: true}, nil, nil},
		{"IOMMUFD, SR-IOV", "sriov", Pod{IOMMUFD: true}, nil, nil},
		{"IOMMUFD and PCINUMAAwareTopology", "dedicated-cpus-hugepages", Pod{IOMMUFD: true, PCINUMA: true}, nil, nil},
		{"ACPI nodes", "two-gpus", Pod{IOMMUFD: true}, nil, withACPINodes},
	} {
		t.Run(gate.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis", gate.vmi+".yaml"))
			if gate.gpus != nil {
				vmi.Spec.Domain.Devices.GPUs = gate.gpus
			}
			vmi.Name = gate.name
			throughThePasses(t, vmi, gate.pod, gate.change, table)
		})
	}
}

func withACPINodes(spec *api.DomainSpec) {
	for number := range spec.Devices.HostDevices {
		spec.Devices.HostDevices[number].ACPI = &api.ACPIHostDev{NodeSet: fmt.Sprint(number + 2)}
	}
}

// A migration's target calls the hook once, with a domain that KubeVirt has left its PCI hostdevs out
// of, and throws the answer away. It fails if the hook does.
func TestAMigrationTargetIsNeverRefused(t *testing.T) {
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	target := HookManager(directory)
	if err := target.Collect(1, patience); err != nil {
		t.Fatal(err)
	}
	for _, path := range manifests(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			vmi := readVMI(t, path)
			allocate(t, vmi)
			vmi.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{
				SourceNode: "one", TargetNode: "other", TargetPod: "virt-launcher-2", MigrationUID: "42",
			}
			spec := converted(t, vmi, Pod{MigrationTarget: true})
			reply, err := target.OnDefineDomain(spec, vmi)
			if err != nil {
				t.Fatal(err)
			}
			if found := parsed(t, reply).PassedThrough(); len(found) != 0 {
				t.Errorf("devices were added on the target: %v", found)
			}
		})
	}
}
