package launcher

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"launcher-hook/interop/harness"
)

const (
	first, second, third = "0000:3b:00.0", "0000:af:00.0", "0000:86:00.0"
	firstMdev            = "aa618089-8b16-4d01-a136-25a0f3c73123"
	secondMdev           = "4b20d080-1b54-4048-85b3-a6a62d165c01"

	variableX, variableY         = "PCI_RESOURCE_EXAMPLE_COM_X", "PCI_RESOURCE_EXAMPLE_COM_Y"
	mdevVariableX, mdevVariableY = "MDEV_PCI_RESOURCE_EXAMPLE_COM_X", "MDEV_PCI_RESOURCE_EXAMPLE_COM_Y"
	usbVariableX                 = "USB_RESOURCE_EXAMPLE_COM_X"
)

// KubeVirt deals the addresses of the variables out to gpus[] from pools of their own, and to
// hostDevices[] from other pools that are filled from the same variables again. What then starts, render
// makes too; what does not, it refuses.
func TestKubeVirtDealsAddressesOutOfTwoPools(t *testing.T) {
	table := harness.NewTable("interop-two-pools", "What KubeVirt 1.9's converter makes of variables, gpus and hostDevices",
		"case", "variables", "gpus", "hostDevices", "hostdevs, or virt-launcher's error", "libvirt "+real.Version(), "launcher-hook render")
	defer table.Write(t)
	for _, c := range []struct {
		name              string
		variables         string
		gpus, hostDevices string // of which resource each entry is: x, y
		hostdevs          string // what KubeVirt writes, in its order
		err               string // or what virt-launcher says
		libvirt           string // what libvirt says of it without any hook
		differs           bool   // render refuses what starts, or takes what does not
	}{
		{name: "gpus of one resource, in the variable's order",
			variables: variableX + "=" + second + "," + first, gpus: "x x",
			hostdevs: "gpu-0=" + second + " gpu-1=" + first},
		{name: "hostDevices of one resource",
			variables: variableX + "=" + second + "," + first, hostDevices: "x x",
			hostdevs: "hostdevice-0=" + second + " hostdevice-1=" + first},
		{name: "one resource in both lists: the same address twice, the second unused",
			variables: variableX + "=" + first + "," + second, gpus: "x", hostDevices: "x",
			hostdevs: "hostdevice-0=" + first + " gpu-0=" + first,
			libvirt:  "already exists in the domain configuration"},
		{name: "one resource in both lists, more of gpus",
			variables: variableX + "=" + first + "," + second + "," + third, gpus: "x x", hostDevices: "x",
			hostdevs: "hostdevice-0=" + first + " gpu-0=" + first + " gpu-1=" + second,
			libvirt:  "already exists in the domain configuration"},
		{name: "one address, both lists",
			variables: variableX + "=" + first, gpus: "x", hostDevices: "x",
			hostdevs: "hostdevice-0=" + first + " gpu-0=" + first,
			libvirt:  "already exists in the domain configuration"},
		{name: "an address in two resources of one list is dealt out once",
			variables: variableX + "=" + first + "," + second + "; " + variableY + "=" + first + "," + third, gpus: "x y",
			hostdevs: "gpu-0=" + first + " gpu-1=" + third},
		{name: "an address in two resources, one in each list, is dealt out twice",
			variables: variableX + "=" + first + "; " + variableY + "=" + first, gpus: "x", hostDevices: "y",
			hostdevs: "hostdevice-0=" + first + " gpu-0=" + first,
			libvirt:  "already exists in the domain configuration"},
		{name: "an earlier entry takes what a later one needs",
			variables: variableX + "=" + first + "," + second + "; " + variableY + "=" + first, gpus: "x y",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "too few addresses for gpus",
			variables: variableX + "=" + first, gpus: "x x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "too few addresses for hostDevices",
			variables: variableX + "=" + first, hostDevices: "x x",
			err: "the number of device plugin HostDevice/s do not match the number of devices"},
		{name: "more addresses than entries",
			variables: variableX + "=" + first + "," + second, gpus: "x",
			hostdevs: "gpu-0=" + first},
		{name: "one address twice in a variable counts once",
			variables: variableX + "=" + first + "," + first, gpus: "x x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "one address in two spellings counts twice",
			variables: variableX + "=" + first + "," + strings.ToUpper(first), gpus: "x x",
			hostdevs: "gpu-0=" + first + " gpu-1=" + first,
			libvirt:  "already exists in the domain configuration"},
		{name: "one comma at the end", variables: variableX + "=" + first + ",", gpus: "x",
			hostdevs: "gpu-0=" + first},
		{name: "two commas at the end", variables: variableX + "=" + first + ",,", gpus: "x",
			hostdevs: "gpu-0=" + first, differs: true},
		{name: "a comma at the start", variables: variableX + "=," + first, gpus: "x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "an empty variable", variables: variableX + "=", gpus: "x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "no variable", gpus: "x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "a blank before an address", variables: variableX + "= " + first, gpus: "x",
			err: "failed to parse pci address", differs: true},
		{name: "no address", variables: variableX + "=3b:00.0", gpus: "x",
			err: "failed to parse pci address"},
		{name: "PCI functions before mediated devices, whatever the order of the entries",
			variables: mdevVariableX + "=" + firstMdev + "; " + variableY + "=" + second, gpus: "x y",
			hostdevs: "gpu-1=" + second + " gpu-0=" + firstMdev},
		{name: "a resource of functions and mediated devices: two devices for its entry",
			variables: variableX + "=" + first + "; " + mdevVariableX + "=" + firstMdev, gpus: "x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "the same with two entries: both devices are the first one's, and the number is right",
			variables: variableX + "=" + first + "; " + mdevVariableX + "=" + firstMdev, gpus: "x x",
			hostdevs: "gpu-0=" + first + " gpu-0=" + firstMdev,
			libvirt:  "non unique alias detected"},
		{name: "the same of hostDevices",
			variables: variableX + "=" + first + "; " + mdevVariableX + "=" + firstMdev, hostDevices: "x x",
			hostdevs: "hostdevice-0=" + first + " hostdevice-0=" + firstMdev,
			libvirt:  "non unique alias detected"},
		{name: "functions and mediated devices enough for both entries: four devices, refused",
			variables: variableX + "=" + first + "," + second + "; " + mdevVariableX + "=" + firstMdev + "," + secondMdev, gpus: "x x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
		{name: "functions to gpus, mediated devices to hostDevices: each list gets both",
			variables: variableX + "=" + first + "; " + mdevVariableX + "=" + firstMdev, gpus: "x", hostDevices: "x",
			err: "the number of device plugin HostDevice/s do not match the number of devices"},
		{name: "an entry without a device, made up for by another's two",
			variables: variableX + "=" + first + "; " + mdevVariableX + "=" + firstMdev, gpus: "x y",
			hostdevs: "gpu-0=" + first + " gpu-0=" + firstMdev,
			libvirt:  "non unique alias detected"},
		{name: "mediated devices in both lists",
			variables: mdevVariableX + "=" + firstMdev + "," + secondMdev, gpus: "x", hostDevices: "x",
			hostdevs: "hostdevice-0=" + firstMdev + " gpu-0=" + firstMdev,
			libvirt:  "already exists in the domain configuration"},
		{name: "a USB device is for hostDevices only", variables: usbVariableX + "=1:3", gpus: "x",
			err: "the number of device plugin GPU/s do not match the number of devices"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
			vmi.Spec.Domain.Devices.GPUs, vmi.Spec.Domain.Devices.HostDevices = nil, nil
			for number, resource := range strings.Fields(c.gpus) {
				vmi.Spec.Domain.Devices.GPUs = append(vmi.Spec.Domain.Devices.GPUs,
					v1.GPU{Name: fmt.Sprint(number), DeviceName: "example.com/" + resource})
			}
			for number, resource := range strings.Fields(c.hostDevices) {
				vmi.Spec.Domain.Devices.HostDevices = append(vmi.Spec.Domain.Devices.HostDevices,
					v1.HostDevice{Name: fmt.Sprint(number), DeviceName: "example.com/" + resource})
			}
			for _, variable := range strings.Split(c.variables, "; ") {
				if name, value, set := strings.Cut(variable, "="); set {
					t.Setenv(name, value)
				}
			}
			ours := renderedFromVariables(t, vmi)
			spec, err := Convert(vmi, Pod{}, t.TempDir())
			starts := c.err == "" && c.libvirt == ""
			if took := compareDealt(t, ours, c.hostdevs); took != (starts != c.differs) {
				t.Errorf("KubeVirt starts it: %v; render: %s", starts, ours)
			}
			says := ours
			if _, why, refused := strings.Cut(ours, "launcher-hook: "); refused {
				says = "refuses: " + strings.TrimSpace(why)
			}
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("virt-launcher goes on, or says something else: %v", err)
				}
				table.Row(c.name, c.variables, c.gpus, c.hostDevices, c.err, "", says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if hostdevs := dealt(spec); hostdevs != c.hostdevs {
				t.Errorf("hostdevs %q, expected %q", hostdevs, c.hostdevs)
			}
			FitForThisMachine(spec)
			said := definedAlone(t, vmi, spec)
			if (said == "") != (c.libvirt == "") || !strings.Contains(said, c.libvirt) {
				t.Errorf("libvirt says %q, expected %q", said, c.libvirt)
			}
			table.Row(c.name, c.variables, c.gpus, c.hostDevices, c.hostdevs, map[bool]string{true: "defines it", false: said}[said == ""], says)
		})
	}
}

// compareDealt says whether render went on. Then it must have each device that KubeVirt has; what is
// allocated and no entry asks for it adds.
func compareDealt(t *testing.T, ours, theirs string) bool {
	t.Helper()
	if strings.Contains(ours, "launcher-hook: ") {
		return false
	}
	have := strings.Fields(ours)
	for _, hostdev := range strings.Fields(theirs) {
		if !slices.Contains(have, hostdev) {
			t.Errorf("render has %s and not %s", ours, hostdev)
		}
	}
	for _, hostdev := range have {
		if !strings.HasPrefix(hostdev, "pci-") && theirs != "" && !slices.Contains(strings.Fields(theirs), hostdev) {
			t.Errorf("render has %s too", hostdev)
		}
	}
	return true
}

// renderedFromVariables are the hostdevs that render makes of the same variables, in the form of dealt,
// or what it says.
func renderedFromVariables(t *testing.T, vmi *v1.VirtualMachineInstance) string {
	t.Helper()
	without := vmi.DeepCopy()
	without.Spec.Domain.Devices.GPUs, without.Spec.Domain.Devices.HostDevices = nil, nil
	domain, manifest := written(t, vmi, converted(t, without, Pod{}))
	out, said, status := harness.Run(t, "render", "--domain", domain, "--vmi", manifest, "--sysfs", nodeSys)
	if status != 0 {
		return said
	}
	var found []string
	for source, device := range parsed(t, out).PassedThrough() {
		found = append(found, strings.TrimPrefix(device.Find("alias").Attr("name"), "ua-")+"="+source)
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// dealt are a domain's hostdevs, in its order, as alias=source.
func dealt(spec *api.DomainSpec) string {
	var found []string
	for _, device := range spec.Devices.HostDevices {
		address := device.Source.Address
		source := address.UUID
		if source == "" {
			parts := []string{address.Domain, address.Bus, address.Slot, address.Function}
			for number, part := range parts {
				parts[number] = strings.ToLower(strings.TrimPrefix(part, "0x"))
			}
			source = fmt.Sprintf("%s:%s:%s.%s", parts[0], parts[1], parts[2], parts[3])
		}
		found = append(found, device.Alias.GetName()+"="+source)
	}
	return strings.Join(found, " ")
}

// definedAlone is what libvirt says of a domain as KubeVirt alone defines it, "" for one that it takes.
func definedAlone(t *testing.T, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) string {
	t.Helper()
	real.Forget()
	defer real.Forget()
	if err := HookManager(harness.ShortDir(t)).Collect(0, patience); err != nil {
		t.Fatal(err)
	}
	if err := Define(real, vmi, spec.DeepCopy()); err != nil {
		return err.Error()
	}
	return ""
}
