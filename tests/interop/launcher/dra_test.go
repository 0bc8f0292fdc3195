package launcher

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/dra"
	draadmitter "kubevirt.io/kubevirt/pkg/dra/admitter"
	"launcher-hook/interop/harness"
)

// Every other VMI has one ResourceClaim with a request for each entry, the others have a
// ResourceClaimTemplate for each entry and for each SR-IOV network.
func TestEveryVMIWithDevicesGoesThroughThePassesAsClaims(t *testing.T) {
	table := newTable("interop-dra", "The VMIs with devices, each entry made a resource claim's (DRA)")
	defer table.Write(t)
	offline := newOffline("interop-dra-offline")
	defer offline.Write(t)
	number := 0
	for _, path := range manifests(t) {
		vmi := readVMI(t, path)
		claimant := newClaimant(vmi, number%2 == 1).everyEntry()
		if claimant.templates {
			claimant.networks()
		}
		if len(claimant.claims) == 0 {
			continue
		}
		number++
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		t.Run(name, func(t *testing.T) {
			admitted(t, vmi)
			claimant.prepare(t, everyVersion, false)
			throughThePasses(t, vmi, Pod{}, nil, table)
			offline.compare(t, vmi)
		})
	}
}

func TestClaimsBesideWhatElseAVMIHas(t *testing.T) {
	onTheNode()
	table := newTable("interop-dra-cases", "Claims beside what else a VMI has")
	defer table.Write(t)
	offline := newOffline("interop-dra-cases-offline")
	defer offline.Write(t)
	for _, c := range []struct {
		name, vmi string
		templates bool
		claims    func(*claimant)
		change    func(*v1.VirtualMachineInstance)
		pod       Pod
		late      bool
		versions  []string
		refused   bool // by KubeVirt's webhook: virt-launcher would start it
		pinned    map[string]string
	}{
		{name: "one hostDevice by plugin, one by claim", vmi: "host-devices", claims: func(c *claimant) { c.hostDevice(1) }},
		{name: "one hostDevice by claim, one by plugin", vmi: "host-devices", claims: func(c *claimant) { c.hostDevice(0) }},
		{name: "gpus by claim, hostDevices by plugin", vmi: "everything", claims: func(c *claimant) {
			for number := range c.vmi.Spec.Domain.Devices.GPUs {
				c.gpu(number)
			}
		}},
		{name: "gpus by plugin, hostDevices by claim", vmi: "everything", templates: true, claims: func(c *claimant) {
			for number := range c.vmi.Spec.Domain.Devices.HostDevices {
				c.hostDevice(number)
			}
		}},
		{name: "one gpu by plugin, one by claim", vmi: "two-gpus", claims: func(c *claimant) { c.gpu(1) }, refused: true},
		{name: "one gpu by claim, one by plugin", vmi: "two-gpus", claims: func(c *claimant) { c.gpu(0) }, refused: true},
		{name: "gpus by plugin, SR-IOV NICs by claim", vmi: "sriov", claims: func(c *claimant) { c.networks() }},
		{name: "gpus and SR-IOV NICs by claims", vmi: "sriov", templates: true, claims: func(c *claimant) { c.everyEntry().networks() }},
		{name: "names with dots", vmi: "host-devices", claims: func(c *claimant) { c.everyEntry() },
			change: func(vmi *v1.VirtualMachineInstance) {
				devices := vmi.Spec.Domain.Devices.HostDevices
				devices[0].Name, devices[1].Name = "q.a.t", "card.1"
			}},
		{name: "names with dots, by plugin and by claim", vmi: "host-devices", claims: func(c *claimant) { c.hostDevice(0) },
			change: func(vmi *v1.VirtualMachineInstance) {
				devices := vmi.Spec.Domain.Devices.HostDevices
				devices[0].Name, devices[1].Name = "q.a.t", "card.1"
			}},
		{name: "names with dots, pinned", vmi: "host-devices", claims: func(c *claimant) { c.everyEntry() },
			change: func(vmi *v1.VirtualMachineInstance) {
				devices := vmi.Spec.Domain.Devices.HostDevices
				devices[0].Name, devices[1].Name = "q.a.t", "card.1"
				write(vmi, `slots: {card.1: "0000:1d:00.0", q.a.t: "0000:1e:00.0"}`)
			}, pinned: map[string]string{"0000:86:00.0": "0000:1d:00.0", "0000:b7:01.2": "0000:1e:00.0"}},
		{name: "names with dots, by plugin and by claim, pinned", vmi: "host-devices", claims: func(c *claimant) { c.hostDevice(1) },
			change: func(vmi *v1.VirtualMachineInstance) {
				devices := vmi.Spec.Domain.Devices.HostDevices
				devices[0].Name, devices[1].Name = "q.a.t", "card.1"
				write(vmi, `slots: {card.1: "0000:1d:00.0", q.a.t: "0000:1e:00.0"}`)
			}, pinned: map[string]string{"0000:86:00.0": "0000:1d:00.0", "0000:b7:01.2": "0000:1e:00.0"}},
		{name: "gpus and SR-IOV NICs by claims, pinned", vmi: "sriov", templates: true, claims: func(c *claimant) { c.everyEntry().networks() },
			change: func(vmi *v1.VirtualMachineInstance) {
				write(vmi, `slots: {gpu0: "0000:1d:00.0", ua-sriov-sr1: "0000:1e:00.0"}`)
			}, pinned: map[string]string{"0000:af:00.0": "0000:1d:00.0", "0000:65:00.2": "0000:1e:00.0"}},
		{name: "a gpu and a hostDevice of one name, by claims", vmi: "everything", claims: func(c *claimant) { c.everyEntry() },
			change: func(vmi *v1.VirtualMachineInstance) {
				devices := &vmi.Spec.Domain.Devices
				devices.GPUs[0].Name, devices.HostDevices[0].Name = "dev", "dev"
			}},
		{name: "addresses and UUIDs in capitals", vmi: "everything", claims: func(c *claimant) {
			c.capitals = true
			c.everyEntry().networks()
		}},
		{name: "attributes that come after the claim is prepared", vmi: "two-gpus", claims: func(c *claimant) { c.everyEntry() }, late: true},
		{name: "the older version of the metadata first", vmi: "two-gpus", templates: true, claims: func(c *claimant) { c.everyEntry() },
			versions: []string{"v1alpha1", "v1beta1"}},
		{name: "gate IOMMUFD", vmi: "two-gpus", claims: func(c *claimant) { c.everyEntry() }, pod: Pod{IOMMUFD: true}},
		{name: "gate IOMMUFD, a GPU with audio", vmi: "gpu-with-audio", claims: func(c *claimant) { c.everyEntry() }, pod: Pod{IOMMUFD: true}},
		{name: "gate IOMMUFD, NICs by claims", vmi: "sriov", claims: func(c *claimant) { c.everyEntry().networks() }, pod: Pod{IOMMUFD: true}},
		{name: "gate PCINUMAAwareTopology", vmi: "devices-of-two-sockets", claims: func(c *claimant) { c.everyEntry().networks() }, pod: Pod{PCINUMA: true}},
		{name: "layout root-bus", vmi: "everything", claims: func(c *claimant) { c.everyEntry() },
			change: func(vmi *v1.VirtualMachineInstance) { write(vmi, "layout: root-bus") }},
		{name: "layout numa", vmi: "devices-of-two-sockets", claims: func(c *claimant) { c.everyEntry().networks() },
			change: func(vmi *v1.VirtualMachineInstance) { write(vmi, "layout: numa") }},
		{name: "layout mirror", vmi: "devices-of-two-sockets", templates: true, claims: func(c *claimant) { c.everyEntry().networks() },
			change: func(vmi *v1.VirtualMachineInstance) { write(vmi, "layout: mirror") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis", c.vmi+".yaml"))
			vmi.Name = c.name
			if c.change != nil {
				c.change(vmi)
			}
			claimant := newClaimant(vmi, c.templates)
			c.claims(claimant)
			if c.refused {
				if said := refusals(vmi); !strings.Contains(said, "contains both DRA and non-DRA GPUs") {
					t.Errorf("KubeVirt's webhook says %q; drop it from README.md", said)
				}
			} else {
				admitted(t, vmi)
			}
			if c.versions == nil {
				c.versions = everyVersion
			}
			claimant.prepare(t, c.versions, c.late)
			boot := throughThePasses(t, vmi, c.pod, nil, table)
			for pass, back := range boot.back {
				for host, guest := range c.pinned {
					if is := back.PassedThrough()[host].Find("address").PCI(); is != guest {
						t.Errorf("pass %d: %s is at %s, pinned to %s", pass+1, host, is, guest)
					}
				}
			}
			offline.compare(t, vmi)
		})
	}
}

// The library writes, KubeVirt and we read: a device, or why not. What virt-launcher refuses, it refuses
// before it calls a hook.
func TestWhatIsReadFromTheMetadataOfAClaim(t *testing.T) {
	table := harness.NewTable("interop-dra-metadata", "Metadata that Kubernetes 1.37's library writes, read by KubeVirt 1.9 and by launcher-hook",
		"case", "virt-launcher", "launcher-hook render --dra-metadata")
	defer table.Write(t)
	const (
		gpu, pciBusID     = "0000:3b:00.0", "resource.kubernetes.io/pciBusID"
		mdev              = "aa618089-8b16-4d01-a136-25a0f3c73123"
		noAttribute       = "has no mdevUUID or pciBusID in metadata"
		ourNoAttribute    = "has neither mdevUUID nor resource.kubernetes.io/pciBusID"
		ourNoFile         = "there is no " + dra.DefaultMetadataBasePath
		unknownVersion    = "no compatible metadata version found in stream (unknown versions: metadata.resource.k8s.io/v1beta1)"
		noFile, noRequest = "no files matching", "(available requests: [request-0/large])"
	)
	alternatives := func(c *claimant) {
		result := &c.claims[0].Status.Allocation.Devices.Results[0]
		result.Request += "/large"
	}
	entry := func(c *claimant) *v1.ClaimRequest { return c.vmi.Spec.Domain.Devices.GPUs[0].ClaimRequest }
	for _, c := range []struct {
		name         string
		versions     []string
		device       map[string]string
		change       func(*claimant)
		theirs, ours string // the device, or what is said
	}{
		{"v1beta1 alone, the least that the library takes", []string{"v1beta1"}, attributes(gpu), nil, unknownVersion, gpu},
		{"v1beta1, v1alpha1", everyVersion, attributes(gpu), nil, gpu, gpu},
		{"v1alpha1, v1beta1", []string{"v1alpha1", "v1beta1"}, attributes(gpu), nil, gpu, gpu},
		{"mdevUUID and pciBusID", everyVersion, attributes(mdev), nil, mdev, mdev},
		{"mdevUUID alone", everyVersion, map[string]string{"mdevUUID": mdev}, nil, mdev, mdev},
		{"mdevUUID in capitals", everyVersion, map[string]string{"mdevUUID": strings.ToUpper(mdev)}, nil, strings.ToUpper(mdev), mdev},
		{"mdevUUID of the driver's domain", everyVersion, map[string]string{draDriver + "/mdevUUID": mdev}, nil, noAttribute, ourNoAttribute},
		{"mdevUUID of resource.kubernetes.io", everyVersion, map[string]string{"resource.kubernetes.io/mdevUUID": mdev}, nil, noAttribute, mdev},
		{"pciBusID without a domain", everyVersion, map[string]string{"pciBusID": gpu}, nil, noAttribute, ourNoAttribute},
		{"an empty mdevUUID beside pciBusID", everyVersion, map[string]string{"mdevUUID": "", pciBusID: gpu}, nil, gpu, gpu},
		{"upper-case hexadecimal", everyVersion, map[string]string{pciBusID: "0000:3B:00.0"}, nil, gpu, gpu},
		{"no PCI domain in the address", everyVersion, map[string]string{pciBusID: "3b:00.0"}, nil,
			"failed to parse pci address 3b:00.0", "'3b:00.0' is not a PCI address"},
		{"no attributes", everyVersion, map[string]string{}, nil, noAttribute, ourNoAttribute},
		{"two devices for the request", everyVersion, attributes(gpu), func(c *claimant) {
			c.allocate(&c.claims[0], c.claims[0].Spec.Devices.Requests[0].Name, attributes("0000:af:00.0"))
		}, "has 2 devices but KubeVirt only supports exactly one device per request", "has 2 devices: "},
		{"a request with alternatives (firstAvailable)", everyVersion, attributes(gpu), alternatives, noRequest, gpu},
		{"the same, the VMI names the alternative", everyVersion, attributes(gpu), func(c *claimant) {
			alternatives(c)
			entry(c).RequestName += "/large"
		}, noFile, gpu},
		{"a request that the claim does not have", everyVersion, attributes(gpu), func(c *claimant) { entry(c).RequestName = "other" }, noFile, ourNoFile},
		{"a claim that the VMI does not have", everyVersion, attributes(gpu), func(c *claimant) { entry(c).ClaimName = "other" },
			`metadata not found for claim "other"`, "spec.resourceClaims has no 'other'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis/gpu.yaml"))
			vmi.Spec.Domain.Devices.GPUs = nil
			domain := converted(t, vmi, Pod{})
			claimant := newClaimant(vmi, false)
			vmi.Spec.Domain.Devices.GPUs = []v1.GPU{{Name: "gpu0", ClaimRequest: claimant.claim(c.device)}}
			if c.change != nil {
				c.change(claimant)
			}
			claimant.prepare(t, c.versions, false)

			theirs := ""
			if spec, err := Convert(vmi, Pod{}, t.TempDir()); err != nil {
				theirs = err.Error()
			} else {
				theirs = strings.TrimPrefix(dealt(spec), "dra-gpu-gpu0=")
			}
			ours := renderedFromMetadata(t, vmi, domain)
			checkSays(t, "virt-launcher", theirs, c.theirs)
			checkSays(t, "launcher-hook", ours, c.ours)
			table.Row(c.name, c.theirs, c.ours)
		})
	}
}

// checkSays: a device is all that is said, a reason is a part of it.
func checkSays(t *testing.T, who, says, expected string) {
	t.Helper()
	isDevice := !strings.Contains(expected, " ")
	if isDevice && says != expected || !strings.Contains(says, expected) {
		t.Errorf("%s: %q, expected %q", who, says, expected)
	}
}

// gates are KubeVirt 1.9's, with that for networks on.
type gates struct{}

func (gates) GPUsWithDRAGateEnabled() bool           { return true }
func (gates) HostDevicesWithDRAEnabled() bool        { return true }
func (gates) NetworkDevicesWithDRAGateEnabled() bool { return true }

// refusals are what KubeVirt's webhook says of a VMI's claims.
func refusals(vmi *v1.VirtualMachineInstance) string {
	var said []string
	for _, cause := range draadmitter.NewValidator(field.NewPath("spec"), &vmi.Spec, gates{}).Validate() {
		said = append(said, cause.Message)
	}
	slices.Sort(said)
	return strings.Join(said, "; ")
}

func admitted(t *testing.T, vmi *v1.VirtualMachineInstance) {
	t.Helper()
	if said := refusals(vmi); said != "" {
		t.Fatalf("KubeVirt's webhook refuses this VMI: %s", said)
	}
}
