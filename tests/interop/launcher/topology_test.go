package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/util/hardware"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/converter"
	"launcher-hook/interop/harness"
)

const (
	twoGPUs    = "fixtures/vmis/dedicated-cpus-hugepages.yaml"
	twoSockets = "fixtures/vmis/devices-of-two-sockets.yaml"
)

// onTheNode has KubeVirt look at the node that the sidecar sees.
func onTheNode() {
	hardware.PciBasePath = filepath.Join(nodeSys, "bus/pci/devices")
	hardware.NodeBasePath = filepath.Join(nodeSys, "bus/node/devices")
}

// KubeVirt places the devices with its gate PCINUMAAwareTopology, we with layout numa and without the
// gate. Indexes may differ: ours are high, so that no other device moves. So do slots on the expander bus:
// KubeVirt's are in the order of host addresses, ours in the VMI's, which does not change from start to start.
func TestLayoutNUMAPlacesAsKubeVirtDoes(t *testing.T) {
	onTheNode()
	table := harness.NewTable("interop-numa", "Layout numa, and KubeVirt 1.9's gate PCINUMAAwareTopology",
		"VMI", "host node, device", "KubeVirt's own", "layout numa", "cell and busNr equal", "companions at its port")
	defer table.Write(t)
	devices, same := 0, 0
	for _, c := range []struct {
		name, vmi string
		cores     uint32
		change    func(*api.DomainSpec)
	}{
		{"dedicated-cpus-hugepages", twoGPUs, 0, nil},
		{"devices-of-two-sockets", twoSockets, 0, nil},
		{"the same, only vCPU pins", twoSockets, 0, func(spec *api.DomainSpec) { spec.NUMATune = nil }},
		{"the same, CPUs of one socket", twoSockets, 4, func(*api.DomainSpec) {}}, // without strictness
	} {
		t.Run(c.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), c.vmi))
			if c.cores != 0 {
				vmi.Spec.Domain.CPU.Cores = c.cores
			}
			wanted := allocate(t, vmi)
			kubevirts := withoutHook(t, vmi, placedByKubeVirt(t, vmi, c.change)).Places()

			spec := converted(t, vmi, Pod{})
			if c.change != nil {
				c.change(spec)
			}
			write(vmi, "layout: numa")
			defined := withHook(t, vmi, spec)
			numa := defined.Places()
			if len(numa) != len(wanted) {
				t.Errorf("%d devices, expected %d", len(numa), len(wanted))
			}
			for _, host := range sorted(kubevirts) {
				theirs, our := kubevirts[host], numa[host]
				var beside []string
				for _, companion := range companions[host] {
					if numa[companion].Port != our.Port {
						t.Errorf("%s is at port %q, %s at port %q", host, our.Port, companion, numa[companion].Port)
					}
					beside = append(beside, companion)
				}
				equal := theirs.Cell == our.Cell && theirs.BusNr == our.BusNr
				if !equal {
					t.Errorf("%s: %v, KubeVirt's own %v", host, our, theirs)
				}
				devices++
				if equal {
					same++
				}
				table.Row(c.name, hostNode(t, host)+", "+host, theirs, our, yes(equal), strings.Join(beside, " "))
			}
			checkEveryPortHasOneSlot(t, numa)
			checkSlotsFollowTheVMI(t, vmi, defined)
		})
	}
	table.Note("%d of %d devices are on the expander bus that KubeVirt puts them on.", same, devices)
}

// placedByKubeVirt is the domain with KubeVirt's own placement: by its gate, or, where the domain is
// changed before that, by its placement alone, which then is not strict.
func placedByKubeVirt(t *testing.T, vmi *v1.VirtualMachineInstance, change func(*api.DomainSpec)) *api.DomainSpec {
	t.Helper()
	if change == nil {
		return converted(t, vmi, Pod{PCINUMA: true})
	}
	spec := converted(t, vmi, Pod{})
	change(spec)
	if err := converter.PlacePCIDevicesWithNUMAAlignment(spec); err != nil {
		t.Fatalf("KubeVirt's placement: %v", err)
	}
	return spec
}

// checkSlotsFollowTheVMI: on each expander bus the entries' ports are in the VMI's order.
func checkSlotsFollowTheVMI(t *testing.T, vmi *v1.VirtualMachineInstance, domain *Node) {
	t.Helper()
	hosts := map[string]string{}
	for host, device := range domain.PassedThrough() {
		hosts[device.Find("alias").Attr("name")] = host
	}
	places, last := domain.Places(), map[string]string{}
	for _, alias := range aliases(vmi) {
		place := places[hosts[alias]]
		if place.Slot < last[place.BusNr] {
			t.Errorf("%s: slot %s of expander bus %s, an entry before it has %s", alias, place.Slot, place.BusNr, last[place.BusNr])
		}
		last[place.BusNr] = place.Slot
	}
}

// aliases are those of a VMI's entries, in its order.
func aliases(vmi *v1.VirtualMachineInstance) []string {
	var found []string
	for _, gpu := range vmi.Spec.Domain.Devices.GPUs {
		found = append(found, "ua-gpu-"+gpu.Name)
	}
	for _, device := range vmi.Spec.Domain.Devices.HostDevices {
		found = append(found, "ua-hostdevice-"+device.Name)
	}
	for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
		if iface.SRIOV != nil {
			found = append(found, "ua-sriov-"+iface.Name)
		}
	}
	return found
}

// checkEveryPortHasOneSlot: only functions of one host slot, and no virtual function, share a port.
func checkEveryPortHasOneSlot(t *testing.T, places map[string]Place) {
	t.Helper()
	owners := map[string]string{}
	for _, host := range sorted(places) {
		port := places[host].Port
		if port == "" {
			continue
		}
		owner, there := owners[port]
		if !there {
			owners[port] = host
		} else if !slices.Contains(companions[owner], host) {
			t.Errorf("%s and %s share port %s", owner, host, port)
		}
	}
}

// KubeVirt is strict where the VMI asks for guestMappingPassthrough, we where strict is written.
func TestADeviceOfASocketThatTheGuestDoesNotHaveIsRefused(t *testing.T) {
	onTheNode()
	vmi := readVMI(t, filepath.Join(harness.Root(), twoGPUs))
	vmi.Spec.Domain.CPU.Cores = 4
	allocate(t, vmi)
	_, err := Convert(vmi, Pod{PCINUMA: true}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "0000:af:00.0 cannot be placed on a NUMA-aware PCIe topology") {
		t.Errorf("KubeVirt's own: %v", err)
	}
	write(vmi, "{layout: numa, strict: true}")
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	_, err = boot(t, directory, 1, vmi)
	if err == nil || !strings.Contains(err.Error(), "0000:af:00.0 (ua-gpu-gpu1): host NUMA node 1 is no guest NUMA cell") {
		t.Errorf("virt-launcher goes on, or does not say why: %v", err)
	}
	t.Logf("virt-launcher's event: %v", err)
}

// With the gate on, what KubeVirt has placed stays where it is in every layout, and nothing is added;
// what the layout mirror would have done is a warning.
func TestWhatKubeVirtHasPlacedIsAdopted(t *testing.T) {
	onTheNode()
	table := newTable("interop-adopted", "Layouts beside KubeVirt's gate PCINUMAAwareTopology: its placement is adopted")
	defer table.Write(t)
	for _, layout := range []struct{ name, warning string }{
		{"auto", ""},
		{"numa", ""},
		{"mirror", "ua-hostdevice-qat0 are PIX on the node and PHB in the guest"},
	} {
		t.Run(layout.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), twoSockets))
			vmi.Name = "layout " + layout.name
			write(vmi, "layout: "+layout.name)
			boot := throughThePasses(t, vmi, Pod{PCINUMA: true}, nil, table)
			for pass, given := range boot.given {
				back := boot.back[pass].PassedThrough()
				for host, device := range given.PassedThrough() {
					before, after := device.Find("address").PCI(), back[host].Find("address").PCI()
					if before == "" || before != after {
						t.Errorf("pass %d: %s is at %q, KubeVirt had it at %q", pass+1, host, after, before)
					}
				}
				theirs, ours := given.PCIControllers(), boot.back[pass].PCIControllers()
				if !slices.Equal(theirs, ours) {
					t.Errorf("pass %d: controllers %v, KubeVirt's are %v", pass+1, ours, theirs)
				}
			}
			said := warnings(boot.log)
			if layout.warning == "" && len(said) != 0 || !strings.Contains(strings.Join(said, "\n"), layout.warning) {
				t.Errorf("the log warns of %q, expected %q", said, layout.warning)
			}
		})
	}
}

// withHook is libvirt's read-back of a VM that our sidecar alone has changed.
func withHook(t *testing.T, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) *Node {
	t.Helper()
	real.Forget()
	t.Cleanup(real.Forget)
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	if err := HookManager(directory).Collect(1, patience); err != nil {
		t.Fatal(err)
	}
	if err := Define(real, vmi, spec.DeepCopy()); err != nil {
		t.Fatalf("virt-launcher would not start this VM: %v", err)
	}
	return readBack(t)
}

func hostNode(t *testing.T, host string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(nodeSys, "bus/pci/devices", host, "numa_node"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// warnings are the lines of a sidecar's log with that level.
func warnings(log string) []string {
	return slices.DeleteFunc(strings.Split(log, "\n"), func(line string) bool {
		return !strings.Contains(line, `"level": "warning"`)
	})
}

func sorted(places map[string]Place) []string {
	var hosts []string
	for host := range places {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return hosts
}

func yes(holds bool) string {
	return map[bool]string{true: "yes", false: "NO"}[holds]
}
