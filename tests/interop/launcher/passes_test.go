package launcher

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-kit/log"
	v1 "kubevirt.io/api/core/v1"
	kubevirtlog "kubevirt.io/client-go/log"
	"libvirt.org/go/libvirtxml"

	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/cli"
	"launcher-hook/interop/harness"
)

var (
	real    *Libvirt
	state   string // a directory of this process
	nodeSys string
	legal   = regexp.MustCompile(`^ua-[A-Za-z0-9_-]+$`)
)

func TestMain(m *testing.M) {
	kubevirtlog.Log.SetLogger(log.NewNopLogger()) // each pass logs the whole domain
	os.Exit(run(m))
}

func run(m *testing.M) int {
	_ = os.Setenv("LIBVIRT_DEBUG", "error")
	var err error
	if state, err = os.MkdirTemp("/tmp", "lv"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(state)
	if real, err = Open(state); err != nil {
		panic(fmt.Sprintf("libvirt: %v; make interop brings it", err))
	}
	if nodeSys, err = harness.WriteNode(filepath.Join(state, "sys"), "launcher"); err != nil {
		panic(err)
	}
	return m.Run()
}

func TestEveryVMIGoesThroughThePasses(t *testing.T) {
	table := newTable("interop-passes", "VMIs through KubeVirt 1.9's converter, hook manager and passes, on libvirt "+real.Version())
	defer table.Write(t)
	for _, path := range manifests(t) {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		t.Run(name, func(t *testing.T) { throughThePasses(t, readVMI(t, path), Pod{}, nil, table) })
	}
}

func TestVMIsGoThroughThePassesInEveryOtherLayout(t *testing.T) {
	for _, layout := range []string{"root-bus", "numa", "mirror"} {
		t.Run(layout, func(t *testing.T) {
			table := newTable("interop-layout-"+layout, "The same with layout "+layout)
			defer table.Write(t)
			for _, path := range manifests(t) {
				vmi := readVMI(t, path)
				own := strings.HasPrefix(path, harness.Root())
				if !own && (layout == "root-bus" || vmi.Spec.Domain.CPU == nil || vmi.Spec.Domain.CPU.NUMA == nil) {
					continue
				}
				name, _, _ := strings.Cut(filepath.Base(path), ".")
				t.Run(name, func(t *testing.T) {
					write(vmi, "layout: "+layout)
					if layout != "root-bus" && strings.Contains(vmi.Spec.Domain.Machine.Type, "i440fx") {
						refusedForItsMachine(t, vmi)
						table.Row(vmi.Name, vmi.Spec.Domain.Machine.Type, 0, 0, "", "", "", "refused: no PCIe")
						return
					}
					throughThePasses(t, vmi, Pod{}, nil, table)
				})
			}
		})
	}
}

// refusedForItsMachine: a layout of PCIe ports on a machine that has none.
func refusedForItsMachine(t *testing.T, vmi *v1.VirtualMachineInstance) {
	t.Helper()
	allocate(t, vmi)
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	_, err := boot(t, directory, 1, vmi)
	if err == nil || !strings.Contains(err.Error(), "has no PCIe root ports; write layout: root-bus") {
		t.Errorf("virt-launcher goes on, or does not say why: %v", err)
	}
}

// passesTable is a table with its totals.
type passesTable struct {
	*harness.Table
	machines, calls, devices, lost, moved int
}

func (p *passesTable) Write(t *testing.T) {
	p.Note("%d VMIs, %d calls of the hook, %d devices: %d parts lost, %d other devices moved.",
		p.machines, p.calls, p.devices, p.lost, p.moved)
	p.Table.Write(t)
}

func newTable(file, title string) *passesTable {
	return &passesTable{Table: harness.NewTable(file, title,
		"VMI", "machine", "passes", "devices", "lost", "moved", "free ports (without the hook)", "guest addresses")}
}

// exchange is what went to and fro in a boot, a domain a pass, and what the sidecar logged.
type exchange struct {
	given, back []*Node
	log         string
}

// throughThePasses boots one VMI with two sidecars: the recorder, then ours.
func throughThePasses(t *testing.T, vmi *v1.VirtualMachineInstance, pod Pod, change func(*api.DomainSpec), table *passesTable) exchange {
	wanted := allocate(t, vmi)
	if pod.IOMMUFD && !strings.Contains(vmi.Annotations[annotation], "companions: always") {
		// KubeVirt's device plugin and DRA drivers give the pod no nodes of companions.
		maps.DeleteFunc(wanted, func(_ string, want Wanted) bool { return want.alias == "" })
	}
	spec := converted(t, vmi, pod)
	if change != nil {
		change(spec)
	}

	directory := harness.ShortDir(t)
	recorder := record(t, directory, "hook-sidecar-0")
	program := ours(t, directory, "hook-sidecar-1")
	manager := HookManager(directory)
	if err := manager.Collect(2, patience); err != nil {
		t.Fatal(err)
	}
	defer real.Forget()
	machine := spec.OS.Type.Machine
	if err := Define(connectionFor(machine), vmi, spec.DeepCopy()); err != nil {
		t.Fatalf("virt-launcher would not start this VM: %v", err)
	}
	if err := manager.Shutdown(); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if status := program.ExitStatus(t); status != 0 {
		t.Errorf("exit status %d after Shutdown; the pod would stay unfinished", status)
	}

	replies := real.Defined
	if few, many := passesOf(vmi); len(replies) < few || len(replies) > many || len(recorder.Domains) != len(replies) {
		t.Errorf("%d calls for %d passes, expected %d to %d", len(recorder.Domains), len(replies), few, many)
	}
	boot := exchange{log: program.Log()}
	addresses, lost := map[string]string{}, 0
	for pass, reply := range replies {
		given, back := parsed(t, recorder.Domains[pass]), parsed(t, reply)
		boot.given, boot.back = append(boot.given, given), append(boot.back, back)
		checkDevices(t, pass+1, back, wanted, addresses, reply)
		after := back.PassedThrough()
		for host, device := range given.PassedThrough() {
			for _, part := range LostOfDevice(device, after[host]) {
				t.Errorf("pass %d: %s has lost %s", pass+1, host, part)
				lost++
			}
		}
		for _, element := range Lost(given, back) {
			t.Errorf("pass %d: lost: %s", pass+1, element)
			lost++
		}
	}
	table.machines, table.calls, table.devices = table.machines+1, table.calls+len(replies), table.devices+len(wanted)
	table.lost += lost
	if real.last == nil { // s390x is not defined
		table.Row(vmi.Name, machine, len(replies), len(wanted), lost, "", "", list(addresses))
		return boot
	}
	have := readBack(t)
	moved := checkReadBack(t, have, withoutHook(t, vmi, withoutDevices(spec)), addresses)
	table.moved += moved
	free, before := have.FreePorts(), withoutHook(t, vmi, spec).FreePorts()
	if free < before {
		t.Errorf("%d root ports are free for hotplug, without the hook %d", free, before)
	}
	ports := fmt.Sprintf("%d (%d)", free, before)
	table.Row(vmi.Name, machine, len(replies), len(wanted), lost, moved, ports, list(addresses))
	return boot
}

// checkDevices: all there, managed (but for what virt-launcher unplugs by itself), with a legal alias, where they were in the first pass, and
// readable for libvirt's own Go structs.
func checkDevices(t *testing.T, pass int, back *Node, wanted map[string]Wanted, addresses map[string]string, xml string) {
	t.Helper()
	found := back.PassedThrough()
	if len(found) != len(wanted) {
		t.Errorf("pass %d: %d devices, expected %d", pass, len(found), len(wanted))
	}
	for host, want := range wanted {
		device, there := found[host]
		if !there {
			t.Errorf("pass %d: %s is not in the domain", pass, host)
			continue
		}
		alias := device.Find("alias").Attr("name")
		if !legal.MatchString(alias) || legal.MatchString(want.alias) && alias != want.alias {
			t.Errorf("pass %d: %s: alias %q, expected %q", pass, host, alias, want.alias)
		}
		if managed := device.Attr("managed"); want.managed != "" && managed != want.managed || device.Attr("mode") != "subsystem" {
			t.Errorf("pass %d: %s: managed %q, mode %q", pass, host, managed, device.Attr("mode"))
		}
		// libvirt of a launcher's pod starts no managed function that does not name its driver.
		driver := device.Find("driver")
		if bound := driver != nil && driver.Attr("name") == "vfio" && driver.Attr("model") == "vfio-pci"; bound != (want.managed == "yes") {
			t.Errorf("pass %d: %s: managed %q, driver vfio-pci: %t", pass, host, want.managed, bound)
		}
		guest := device.Find("address").PCI()
		if before, known := addresses[host]; known && before != guest {
			t.Errorf("pass %d: %s: guest address %s, before %s", pass, host, guest, before)
		}
		addresses[host] = guest
	}
	parsed := &libvirtxml.Domain{}
	if err := parsed.Unmarshal(xml); err != nil {
		t.Errorf("pass %d: libvirtxml: %v", pass, err)
	} else if count := len(parsed.Devices.Hostdevs); count < len(wanted) {
		t.Errorf("pass %d: libvirtxml sees %d hostdevs of %d", pass, count, len(wanted))
	}
}

// withoutHook is libvirt's read-back of the same VM as KubeVirt alone defines it.
func withoutHook(t *testing.T, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) *Node {
	t.Helper()
	real.Forget()
	if err := HookManager(harness.ShortDir(t)).Collect(0, patience); err != nil {
		t.Fatal(err)
	}
	if err := Define(real, vmi, spec.DeepCopy()); err != nil {
		t.Fatalf("without hook: %v", err)
	}
	return readBack(t)
}

// withoutDevices leaves out the passed-through devices but for those that KubeVirt itself places.
func withoutDevices(spec *api.DomainSpec) *api.DomainSpec {
	spec = spec.DeepCopy()
	spec.Devices.HostDevices = slices.DeleteFunc(spec.Devices.HostDevices, func(device api.HostDevice) bool {
		return device.Address == nil && (device.Type == api.HostDevicePCI || device.Type == api.HostDeviceMDev)
	})
	return spec
}

// checkReadBack: libvirt has our devices where they were planned, and every other device where it
// would be without them.
func checkReadBack(t *testing.T, have, reference *Node, planned map[string]string) (moved int) {
	t.Helper()
	for host, device := range have.PassedThrough() {
		if guest := device.Find("address").PCI(); guest != planned[host] {
			t.Errorf("%s: libvirt has it at %s, planned was %s", host, guest, planned[host])
		}
	}
	addresses := have.OtherAddresses()
	for device, address := range reference.OtherAddresses() {
		if addresses[device] != address {
			t.Errorf("%s: %s, without passed-through devices %s", device, addresses[device], address)
			moved++
		}
	}
	return moved
}

// passesOf is how often virt-launcher calls a hook in a boot. The third call brings root ports for
// hotplug, and only if the placeholders of the first are too few for the memory and the devices.
func passesOf(vmi *v1.VirtualMachineInstance) (few, many int) {
	interfaces, machine := len(vmi.Spec.Domain.Devices.Interfaces), vmi.Spec.Domain.Machine.Type
	rootComplex := vmi.Annotations[v1.PlacePCIDevicesOnRootComplex] == "true"
	switch {
	case strings.Contains(machine, "i440fx"), strings.HasPrefix(machine, "s390"):
		return 1, 1
	case rootComplex && interfaces == 0:
		return 1, 1
	case rootComplex, interfaces == 0, interfaces > 3:
		return 1, 2
	}
	return 2, 3
}

func converted(t *testing.T, vmi *v1.VirtualMachineInstance, pod Pod) *api.DomainSpec {
	t.Helper()
	pod.SRIOVFunctions = sriovFunctions
	spec, err := Convert(vmi, pod, t.TempDir())
	if err != nil {
		t.Fatalf("KubeVirt's converter: %v", err)
	}
	FitForThisMachine(spec)
	return spec
}

func record(t *testing.T, hooks, name string) *Recorder {
	t.Helper()
	directory := filepath.Join(hooks, name)
	if err := os.Mkdir(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	recorder := &Recorder{}
	stop, err := recorder.Serve(directory, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return recorder
}

func parsed(t *testing.T, xml string) *Node {
	t.Helper()
	domain, err := Parse(xml)
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

func readBack(t *testing.T) *Node {
	t.Helper()
	xml, err := real.ReadBack()
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, xml)
}

func list(addresses map[string]string) string {
	var lines []string
	for host, guest := range addresses {
		lines = append(lines, host+" → "+guest)
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// connectionFor: QEMU for s390x is not installed; such a domain is kept and not defined.
func connectionFor(machine string) cli.Connection {
	if strings.HasPrefix(machine, "s390") {
		return keeping{}
	}
	return real
}

type keeping struct{ cli.Connection }

func (keeping) DomainDefineXML(xml string) (cli.VirDomain, error) {
	real.Defined = append(real.Defined, xml)
	return nil, nil
}
