package launcher

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	pluginv1alpha1 "kubevirt.io/api/plugin/v1alpha1"

	"kubevirt.io/kubevirt/pkg/hooks"
	"kubevirt.io/kubevirt/pkg/util/hardware"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/plugins"
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
		config    string
	}{
		{"PCINUMAAwareTopology", "dedicated-cpus-hugepages", Pod{PCINUMA: true}, nil, nil, ""},
		{"PCINUMAAwareTopology, with audio", "dedicated-cpus-hugepages", Pod{PCINUMA: true}, rtx, nil, ""},
		{"IOMMUFD", "two-gpus", Pod{IOMMUFD: true}, nil, nil, ""},
		{"IOMMUFD, with audio", "gpu-with-audio", Pod{IOMMUFD: true}, nil, nil, ""},
		{"IOMMUFD, with audio, always", "gpu-with-audio", Pod{IOMMUFD: true}, nil, nil, "companions: always"},
		{"IOMMUFD, SR-IOV", "sriov", Pod{IOMMUFD: true}, nil, nil, ""},
		{"IOMMUFD and PCINUMAAwareTopology", "dedicated-cpus-hugepages", Pod{IOMMUFD: true, PCINUMA: true}, nil, nil, ""},
		{"ACPI nodes", "two-gpus", Pod{IOMMUFD: true}, nil, withACPINodes, ""},
	} {
		t.Run(gate.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis", gate.vmi+".yaml"))
			if gate.gpus != nil {
				vmi.Spec.Domain.Devices.GPUs = gate.gpus
			}
			if gate.config != "" {
				write(vmi, gate.config)
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

// A migration's target calls the hooks once each and throws the answers away, but fails if one does.
// KubeVirt leaves its hostdevs out of the target's domain, all but the vGPU with VGPULiveMigration.
func TestAMigrationTargetIsNeverRefused(t *testing.T) {
	directory := harness.ShortDir(t)
	_, plugin := ourPlugin(t, directory)
	target := HookManager(directory)
	if err := target.Collect(1, patience); err != nil {
		t.Fatal(err)
	}
	for _, path := range manifests(t) {
		for _, config := range []string{"", "layuot: no such key"} {
			t.Run(filepath.Base(path)+config, func(t *testing.T) {
				vmi := readVMI(t, path)
				allocate(t, vmi)
				handedOver(vmi, config)
				spec := converted(t, vmi, Pod{MigrationTarget: true})
				sameOnTheTarget(t, target, plugin, vmi, spec, 0)
			})
		}
	}
	table := harness.NewTable("interop-migration-target", "What KubeVirt 1.9 leaves in a migration target's domain, gate VGPULiveMigration",
		"devices", "hostdevs of the target's domain", "our hook")
	defer table.Write(t)
	for _, c := range []struct {
		name, vmi string
		claims    func(*claimant)
		hostdevs  string
		refused   string // by KubeVirt itself, before it calls a hook
	}{
		{"one vGPU", "vgpu", nil, "gpu-vgpu0=" + firstMdev, ""},
		{"one vGPU by claim", "vgpu", func(c *claimant) { c.gpu(0) }, "dra-gpu-vgpu0=" + firstMdev, ""},
		{"one PCI GPU", "gpu", nil, "", ""},
		{"one PCI GPU by claim", "gpu", func(c *claimant) { c.gpu(0) }, "", ""},
		{"two PCI GPUs by claims", "two-gpus", func(c *claimant) { c.everyEntry() }, "", ""},
		{"gpus and hostDevices of both kinds", "everything", nil, "", ""},
		{"two vGPUs", "vgpu", func(c *claimant) {
			devices := &c.vmi.Spec.Domain.Devices
			devices.GPUs = append(devices.GPUs, v1.GPU{Name: "vgpu1", DeviceName: "intel.com/U100"})
		}, "", "currently only supports a single vGPU, found 2"},
	} {
		t.Run("VGPULiveMigration, "+c.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis", c.vmi+".yaml"))
			claimant := newClaimant(vmi, false)
			if c.claims != nil {
				c.claims(claimant)
			}
			claimant.prepare(t, everyVersion, false)
			allocate(t, vmi)
			handedOver(vmi, "layuot: no such key")
			pod := Pod{MigrationTarget: true, VGPUMigration: true}
			if c.refused != "" {
				if _, err := Convert(vmi, pod, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("virt-launcher goes on, or says something else: %v", err)
				}
				table.Row(c.name, "virt-launcher refuses: "+c.refused, "not called")
				return
			}
			spec := converted(t, vmi, pod)
			if hostdevs := dealt(spec); hostdevs != c.hostdevs {
				t.Errorf("hostdevs %q, expected %q", hostdevs, c.hostdevs)
			}
			sameOnTheTarget(t, target, plugin, vmi, spec, len(strings.Fields(c.hostdevs)))
			table.Row(c.name, c.hostdevs, "domain unchanged")
		})
	}
}

// handedOver makes of a VMI what virt-handler sends to a target's launcher, here with a configuration
// that a start is refused for.
func handedOver(vmi *v1.VirtualMachineInstance, config string) {
	write(vmi, config)
	vmi.Status.Phase = v1.Running
	vmi.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{
		SourceNode: "one", TargetNode: "other", TargetPod: "virt-launcher-2", MigrationUID: "42",
	}
}

func sameOnTheTarget(t *testing.T, target hooks.Manager, plugin pluginv1alpha1.Plugin,
	vmi *v1.VirtualMachineInstance, spec *api.DomainSpec, hostdevs int) {
	t.Helper()
	sent, err := xml.MarshalIndent(spec, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	reply, err := target.OnDefineDomain(spec, vmi)
	if err != nil {
		t.Fatal(err)
	}
	if reply != string(sent) {
		t.Errorf("the domain was changed on the target:\n%s", reply)
	}
	if found := parsed(t, reply).PassedThrough(); len(found) != hostdevs {
		t.Errorf("the target's domain has %v and not %d", found, hostdevs)
	}
	updated, _, err := plugins.ApplyDomainHooks(
		[]pluginv1alpha1.Plugin{plugin}, vmi, spec, pluginv1alpha1.InvocationContextMigrationTarget)
	if err != nil {
		t.Fatal(err)
	}
	if count := len(updated.Devices.HostDevices); count != hostdevs {
		t.Errorf("the plugin API's target has %d hostdevs and not %d", count, hostdevs)
	}
}
