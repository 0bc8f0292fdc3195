package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"kubevirt.io/kubevirt/pkg/util"
	"launcher-hook/interop/harness"
)

const patience = 90 * time.Second

// What the node of tests/interop/node.py has, as device plugins and Multus would give it out.
var (
	functions = map[string][]string{
		"nvidia.com/TU104GL_Tesla_T4":              {"0000:3b:00.0", "0000:af:00.0"},
		"nvidia.com/GP102GL_Tesla_P40":             {"0000:86:00.0"},
		"nvidia.com/TU106_GEFORCE_RTX_2060_REV__A": {"0000:d8:00.0"},
		"intel.com/qat":                            {"0000:b7:01.2"},
	}
	mediated = map[string][]string{
		"nvidia.com/GRID_T4-1Q": {"aa618089-8b16-4d01-a136-25a0f3c73123"},
		"intel.com/U100":        {"4b20d080-1b54-4048-85b3-a6a62d165c01"},
	}
	usb            = map[string][]string{"kubevirt.io/storage": {"1:3"}}
	sriovFunctions = map[string]string{"sriov-net": "0000:65:00.2", "sr1": "0000:65:00.2", "sr2": "0000:65:00.3"}
	companions     = map[string][]string{"0000:d8:00.0": {"0000:d8:00.1", "0000:d8:00.2", "0000:d8:00.3"}}
)

// Wanted is what the hook has to make of a device.
type Wanted struct{ alias, managed string }

// allocate sets the variables as kubelet does on the compute container, and says by host address or
// UUID which devices the domain must have. Alias "" is a companion's, which nobody named.
func allocate(t *testing.T, vmi *v1.VirtualMachineInstance) map[string]Wanted {
	wanted := map[string]Wanted{}
	taken := map[string]int{}
	take := func(kind, name, resource string) {
		number := taken[resource]
		taken[resource]++
		for prefix, offered := range map[string]map[string][]string{
			v1.PCIResourcePrefix: functions, v1.MDevResourcePrefix: mediated, v1.USBResourcePrefix: usb,
		} {
			ids := offered[resource]
			if len(ids) <= number {
				continue
			}
			t.Setenv(util.ResourceNameToEnvVar(prefix, resource), strings.Join(ids[:number+1], ","))
			if prefix != v1.USBResourcePrefix {
				want(wanted, ids[number], "ua-"+kind+"-"+name)
			}
			return
		}
		t.Fatalf("this node has not enough of %s; add it to node_test.go and node.py", resource)
	}
	for _, gpu := range vmi.Spec.Domain.Devices.GPUs {
		if gpu.ClaimRequest != nil {
			want(wanted, claimed[*gpu.ClaimRequest], "ua-dra-gpu-"+gpu.Name)
		} else {
			take("gpu", gpu.Name, gpu.DeviceName)
		}
	}
	for _, device := range vmi.Spec.Domain.Devices.HostDevices {
		if device.ClaimRequest != nil {
			want(wanted, claimed[*device.ClaimRequest], "ua-dra-hostdevice-"+device.Name)
		} else {
			take("hostdevice", device.Name, device.DeviceName)
		}
	}
	for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
		if iface.SRIOV != nil {
			wanted[sriovFunctions[iface.Name]] = Wanted{"ua-sriov-" + iface.Name, "no"}
		}
	}
	return wanted
}

// want adds a device and its companions. libvirt has no managed attribute for mediated devices.
func want(wanted map[string]Wanted, source, alias string) {
	wanted[source] = Wanted{alias, map[bool]string{true: "yes", false: ""}[strings.Contains(source, ":")]}
	for _, companion := range companions[source] {
		wanted[companion] = Wanted{"", "yes"}
	}
}

// readVMI reads a manifest; what KubeVirt's webhooks would have filled in is filled in.
func readVMI(t *testing.T, path string) *v1.VirtualMachineInstance {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := yaml.UnmarshalStrict(text, vmi); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if vmi.UID == "" {
		vmi.UID = "5f2c1e0a-6f0f-4c2b-9d36-0c3c0d9d0001"
	}
	if vmi.Spec.Domain.Firmware == nil {
		vmi.Spec.Domain.Firmware = &v1.Firmware{}
	}
	if vmi.Spec.Domain.Firmware.UUID == "" {
		vmi.Spec.Domain.Firmware.UUID = "6a1a24a1-4061-4607-8bf4-a3963d0c5895"
	}
	return vmi
}

const annotation = "passthrough.launcher-hook.io/config"

// write puts our annotation on a VMI.
func write(vmi *v1.VirtualMachineInstance, config string) {
	if vmi.Annotations == nil {
		vmi.Annotations = map[string]string{}
	}
	vmi.Annotations[annotation] = config
}

// manifests are ours and, where they are, those beside the repository.
func manifests(t *testing.T) []string {
	t.Helper()
	ours, _ := filepath.Glob(filepath.Join(harness.Root(), "fixtures/vmis/*.yaml"))
	shared, _ := filepath.Glob(filepath.Join(harness.Root(), "../shared/kubevirt-domains/*.vmi.json"))
	if len(ours) == 0 {
		t.Fatal("fixtures/vmis is empty")
	}
	return slices.Concat(ours, shared)
}

// ours starts launcher-hook as the hook sidecar of this name.
func ours(t *testing.T, hooks, name string, arguments ...string) *harness.Program {
	t.Helper()
	directory := filepath.Join(hooks, name)
	if err := os.MkdirAll(directory, 0o755); err != nil { // there after a predecessor
		t.Fatal(err)
	}
	arguments = append([]string{"serve", "--socket-dir", directory, "--sysfs", nodeSys}, arguments...)
	return harness.Start(t, []string{"CONTAINER_NAME=" + name}, arguments...)
}
