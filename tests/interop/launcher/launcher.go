// Package launcher is KubeVirt's virt-launcher as far as it prepares a domain: its own code, from
// the VMI to what libvirt has defined, with a real libvirt below it and our hook beside it.
package launcher

import (
	"os"
	"path/filepath"
	"reflect"
	"unsafe"

	networkv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	v1 "kubevirt.io/api/core/v1"

	cmdv1 "kubevirt.io/kubevirt/pkg/handler-launcher-com/cmd/v1"
	"kubevirt.io/kubevirt/pkg/hooks"
	"kubevirt.io/kubevirt/pkg/network/downwardapi"
	"kubevirt.io/kubevirt/pkg/network/vmispec"
	osdisk "kubevirt.io/kubevirt/pkg/os/disk"
	"kubevirt.io/kubevirt/pkg/virt-launcher/metadata"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/cli"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/converter"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/converter/types"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/device/hostdevice/sriov"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/efi"
)

// The two steps of SyncVMI that matter here, between which it only prepares disks. They are not
// exported; linking to them by name runs KubeVirt's code itself instead of a copy of its rules.

//go:linkname generateConverterContext kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap.(*LibvirtDomainManager).generateConverterContext
func generateConverterContext(*virtwrap.LibvirtDomainManager, *v1.VirtualMachineInstance, bool, *cmdv1.VirtualMachineOptions, bool) (*types.ConverterContext, error)

//go:linkname allocateHotplugPorts kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap.(*LibvirtDomainManager).allocateHotplugPorts
func allocateHotplugPorts(*virtwrap.LibvirtDomainManager, *v1.VirtualMachineInstance, *api.DomainSpec) (cli.VirDomain, error)

// setField is for fields that only KubeVirt's own tests can set.
func setField[T any](object any, name string, value T) {
	field := reflect.ValueOf(object).Elem().FieldByName(name)
	*(*T)(unsafe.Pointer(field.UnsafeAddr())) = value
}

// HookManager is virt-launcher's own, looking for sockets below this directory and not below
// /var/run/kubevirt-hooks.
func HookManager(directory string) hooks.Manager {
	manager := hooks.GetManager()
	setField(manager, "hookSocketSharedDirectory", directory)
	return manager
}

// Pod is what a VMI's pod finds around it.
type Pod struct {
	SRIOVFunctions  map[string]string // the function that Multus gave to each network
	MigrationTarget bool
	IOMMUFD         bool // KubeVirt's device plugin has left a file descriptor of /dev/iommu
	PCINUMA         bool // KubeVirt's feature gate PCINUMAAwareTopology
	VGPUMigration   bool // and VGPULiveMigration, with LibvirtHooksServerAndClient: a target's domain has the vGPU
}

// Convert makes the domain of a VMI as SyncVMI does, or as prepareMigrationTarget does; its hostdevs
// come from the PCI_RESOURCE_ variables of this process.
func Convert(vmi *v1.VirtualMachineInstance, pod Pod, scratch string) (*api.DomainSpec, error) {
	if err := writeFirmware(scratch); err != nil {
		return nil, err
	}
	domainManager, err := virtwrap.NewLibvirtDomainManager(
		nil, scratch, scratch, nil, scratch, ephemeralDisks{}, metadata.NewCache(), nil, 0,
		func() ([]int, error) { return append(cpus(0, 4), cpus(16, 16)...), nil }, // of both NUMA nodes
		false, pod.VGPUMigration, nil, "", nil, "", false, false, true)
	if err != nil {
		return nil, err
	}
	manager := domainManager.(*virtwrap.LibvirtDomainManager)
	disks := map[string]*osdisk.DiskInfo{}
	for _, volume := range vmi.Spec.Volumes {
		disks[volume.Name] = &osdisk.DiskInfo{Format: "qcow2", ActualSize: 1 << 20, VirtualSize: 1 << 20}
	}
	setField(manager, "disksInfo", disks)

	context, err := generateConverterContext(manager, vmi, true, options(vmi, pod), pod.MigrationTarget)
	if err != nil {
		return nil, err
	}
	// As on a node of the guest's own architecture.
	context.AllowCrossArchEmulation, context.HostArchitecture = false, vmi.Spec.Architecture
	context.IOMMUFDEnabled = pod.IOMMUFD
	if !pod.MigrationTarget {
		devices, err := sriovDevices(vmi, pod.SRIOVFunctions)
		if err != nil {
			return nil, err
		}
		context.SRIOVDevices = append(devices, context.SRIOVDevices...) // those of claims are there
	}
	domain := &api.Domain{}
	if err := converter.Convert_v1_VirtualMachineInstance_To_api_Domain(vmi, domain, context); err != nil {
		return nil, err
	}
	if pod.MigrationTarget {
		return &domain.Spec, nil
	}
	api.NewDefaulter(context.Architecture.GetArchitecture()).SetObjectDefaults_Domain(domain)
	return &domain.Spec, nil
}

// Define does the passes: calls the hooks, defines, reads back, adds root ports, and again.
func Define(connection cli.Connection, vmi *v1.VirtualMachineInstance, spec *api.DomainSpec) error {
	manager := &virtwrap.LibvirtDomainManager{}
	setField(manager, "virConn", connection)
	_, err := allocateHotplugPorts(manager, vmi, spec)
	return err
}

// sriovDevices are those of sriov.CreateHostDevices, which reads the networks' functions from
// /etc/podinfo and nowhere else.
func sriovDevices(vmi *v1.VirtualMachineInstance, functions map[string]string) ([]api.HostDevice, error) {
	var interfaces []v1.Interface
	statuses := map[string]networkv1.NetworkStatus{}
	networks := vmispec.IndexNetworkSpecByName(vmi.Spec.Networks)
	for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
		if iface.SRIOV != nil && !vmispec.IsDRANetwork(networks[iface.Name]) {
			function := &networkv1.PciDevice{PciAddress: functions[iface.Name]}
			statuses[iface.Name] = networkv1.NetworkStatus{DeviceInfo: &networkv1.DeviceInfo{Type: "pci", Pci: function}}
			interfaces = append(interfaces, iface)
		}
	}
	pool, err := sriov.NewPCIAddressPoolWithNetworkStatus([]byte(downwardapi.CreateNetworkInfoAnnotationValue(statuses)))
	if err != nil {
		return nil, err
	}
	return sriov.CreateHostDevicesFromIfacesAndPool(interfaces, pool)
}

// options are what virt-handler sends: here a node with two NUMA nodes of 16 CPUs.
func options(vmi *v1.VirtualMachineInstance, pod Pod) *cmdv1.VirtualMachineOptions {
	topology := &cmdv1.Topology{}
	for node := range 2 {
		cell := &cmdv1.Cell{
			Id:     uint32(node),
			Memory: &cmdv1.Memory{Amount: 64 << 30, Unit: "B"},
			Pages:  []*cmdv1.Pages{{Count: 8192, Unit: "KiB", Size: 2048}},
		}
		for _, cpu := range cpus(16*node, 16) {
			cell.Cpus = append(cell.Cpus, &cmdv1.CPU{Id: uint32(cpu), Siblings: []uint32{uint32(cpu)}})
		}
		topology.NumaCells = append(topology.NumaCells, cell)
	}
	attachments := map[string]string{}
	for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
		if iface.SRIOV == nil {
			attachments[iface.Name] = string(v1.Tap)
		}
	}
	return &cmdv1.VirtualMachineOptions{
		ClusterConfig:             &cmdv1.ClusterConfig{PCINUMAAwareTopologyEnabled: pod.PCINUMA, VGPULiveMigrationEnabled: pod.VGPUMigration},
		InterfaceDomainAttachment: attachments,
		VirtualMachineSMBios:      &cmdv1.SMBios{Manufacturer: "KubeVirt", Product: "None", Family: "KubeVirt"},
		MemBalloonStatsPeriod:     10,
		Topology:                  topology,
	}
}

func cpus(first, count int) []int {
	numbers := make([]int, count)
	for offset := range numbers {
		numbers[offset] = first + offset
	}
	return numbers
}

// writeFirmware puts a file for each firmware that the launcher looks for; only their names count.
func writeFirmware(directory string) error {
	for _, name := range []string{
		efi.EFICode, efi.EFIVars, efi.EFICodeAARCH64, efi.EFIVarsAARCH64, efi.EFICodeSecureBoot, efi.EFIVarsSecureBoot,
	} {
		if err := os.WriteFile(filepath.Join(directory, name), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ephemeralDisks makes none; the launcher only asks for their paths.
type ephemeralDisks struct{}

func (ephemeralDisks) CreateBackedImageForVolume(v1.Volume, string, string) error { return nil }
func (ephemeralDisks) CreateEphemeralImages(*v1.VirtualMachineInstance, *api.Domain) error {
	return nil
}
func (ephemeralDisks) GetFilePath(volume string) string { return "/disks/" + volume + ".qcow2" }
func (ephemeralDisks) Init() error                      { return nil }
