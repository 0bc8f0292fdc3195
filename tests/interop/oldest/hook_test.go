// Package oldest is the hook manager of the first KubeVirt 1.x against our hook sidecar.
package oldest

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/hooks"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"launcher-hook/interop/harness"
)

// Before CONTAINER_NAME came, every sidecar of a pod had the one directory: no file in it may be
// anything but a socket that answers, and the version chosen is v1alpha2.
func TestTheHookManagerOfKubeVirt10DrivesOurSidecar(t *testing.T) {
	table := harness.NewTable("interop-oldest", "KubeVirt 1.0.0's hook manager", "call", "devices (host → guest)")
	defer table.Write(t)
	sys := filepath.Join(t.TempDir(), "sys")
	if err := harness.Node("build", sys, "launcher"); err != nil {
		t.Fatal(err)
	}
	directory := harness.ShortDir(t)
	program := harness.Start(t, nil, "serve", "--socket-dir", directory, "--sysfs", sys)
	manager := hooks.GetManager()
	folder := reflect.ValueOf(manager).Elem().FieldByName("hookSocketSharedDirectory")
	*(*string)(unsafe.Pointer(folder.UnsafeAddr())) = directory
	if err := manager.Collect(1, 90*time.Second); err != nil {
		t.Fatal(err)
	}

	spec, vmi := domainWithGPUs(t)
	var first []api.HostDevice
	for call := 1; call <= 2; call++ {
		reply, err := manager.OnDefineDomain(spec, vmi)
		if err != nil {
			t.Fatal(err)
		}
		spec = &api.DomainSpec{}
		if err := xml.Unmarshal([]byte(reply), spec); err != nil {
			t.Fatal(err)
		}
		devices := spec.Devices.HostDevices
		if call == 1 {
			first = devices
		}
		if len(devices) != 2 || !reflect.DeepEqual(devices, first) {
			t.Fatalf("call %d: %+v, first %+v", call, devices, first)
		}
		row := ""
		for _, device := range devices {
			if device.Managed != "yes" || device.Mode != "subsystem" || device.Address == nil {
				t.Errorf("call %d: %+v", call, device)
			}
			row += device.Source.Address.Bus + " → " + device.Address.Bus + " " + device.Alias.GetName() + "; "
		}
		table.Row(call, row)
	}
	// Shutdown came later: kubelet ends the sidecar.
	_ = program.Signal(syscall.SIGTERM)
	if status := program.ExitStatus(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// domainWithGPUs is the domain and the VMI of a case of ours, with the hostdevs that KubeVirt writes.
func domainWithGPUs(t *testing.T) (*api.DomainSpec, *v1.VirtualMachineInstance) {
	t.Helper()
	directory := filepath.Join(harness.Root(), "fixtures/cases/readme")
	spec, vmi := &api.DomainSpec{}, &v1.VirtualMachineInstance{}
	text, err := os.ReadFile(filepath.Join(directory, "domain.xml"))
	if err == nil {
		err = xml.Unmarshal(text, spec)
	}
	if err == nil {
		text, err = os.ReadFile(filepath.Join(directory, "vmi.json"))
	}
	if err == nil {
		err = json.Unmarshal(text, vmi)
	}
	if err != nil {
		t.Fatal(err)
	}
	spec.Devices.HostDevices = nil
	for number, bus := range []string{"0x3b", "0xaf"} {
		spec.Devices.HostDevices = append(spec.Devices.HostDevices, api.HostDevice{
			Type:    api.HostDevicePCI,
			Managed: "no",
			Alias:   api.NewUserDefinedAlias("gpu-" + vmi.Spec.Domain.Devices.GPUs[number].Name),
			Source:  api.HostDeviceSource{Address: &api.Address{Type: "pci", Domain: "0x0000", Bus: bus, Slot: "0x00", Function: "0x0"}},
		})
	}
	return spec, vmi
}
