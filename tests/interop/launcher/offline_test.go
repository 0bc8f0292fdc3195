package launcher

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/dra"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"launcher-hook/interop/harness"
)

// offlineTable compares render --dra-metadata with what KubeVirt makes of the same files.
type offlineTable struct {
	*harness.Table
	machines, hostdevs int
}

func newOffline(file string) *offlineTable {
	return &offlineTable{Table: harness.NewTable(file,
		"The same files: hostdevs of KubeVirt 1.9's converter, and of launcher-hook render --dra-metadata for the domain without them",
		"VMI", "KubeVirt's hostdevs", "render's devices")}
}

func (o *offlineTable) Write(t *testing.T) {
	o.Note("%d VMIs: render finds the %d hostdevs that KubeVirt makes.", o.machines, o.hostdevs)
	o.Table.Write(t)
}

func (o *offlineTable) compare(t *testing.T, vmi *v1.VirtualMachineInstance) {
	t.Helper()
	wanted := allocate(t, vmi)
	spec := converted(t, vmi, Pod{})
	hostdevs := dealt(spec)
	// The functions of SR-IOV networks are told by nothing but the domain.
	spec.Devices.HostDevices = slices.DeleteFunc(spec.Devices.HostDevices, func(device api.HostDevice) bool {
		return !strings.HasPrefix(device.Alias.GetName(), "sriov-")
	})
	domain, manifest := written(t, vmi, spec)
	out, said, status := harness.Run(t, "render", "--domain", domain, "--vmi", manifest, "--sysfs", nodeSys,
		"--dra-metadata", dra.DefaultMetadataBasePath)
	if status != 0 {
		t.Errorf("render --dra-metadata: exit status %d: %s", status, said)
		return
	}
	rendered := parsed(t, out)
	checkDevices(t, 1, rendered, wanted, map[string]string{}, out)
	o.machines, o.hostdevs = o.machines+1, o.hostdevs+len(strings.Fields(hostdevs))
	o.Row(vmi.Name, hostdevs, fmt.Sprintf("%d, of these %d companions", len(rendered.PassedThrough()), len(wanted)-len(strings.Fields(hostdevs))))
}

// written are a domain and a VMI as files.
func written(t *testing.T, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) (domain, manifest string) {
	t.Helper()
	directory := t.TempDir()
	domain, manifest = filepath.Join(directory, "domain.xml"), filepath.Join(directory, "vmi.json")
	text, err := xml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	object, err := json.Marshal(vmi)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{domain: text, manifest: object} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return domain, manifest
}

// renderedFromMetadata is the one device that render finds, or what it says.
func renderedFromMetadata(t *testing.T, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) string {
	t.Helper()
	domain, manifest := written(t, vmi, spec)
	out, said, status := harness.Run(t, "render", "--domain", domain, "--vmi", manifest, "--sysfs", nodeSys,
		"--dra-metadata", dra.DefaultMetadataBasePath)
	if status != 0 {
		return said
	}
	return strings.Join(slices.Collect(maps.Keys(parsed(t, out).PassedThrough())), " ")
}
