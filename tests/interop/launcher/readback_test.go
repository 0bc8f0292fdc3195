package launcher

import (
	"encoding/xml"
	"strings"
	"testing"

	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"launcher-hook/interop/harness"
)

const everyPart = `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>vm</name>
  <maxMemory slots="16" unit="KiB">4194304</maxMemory>
  <memtune><hard_limit unit="KiB">4194304</hard_limit></memtune>
  <sysinfo type="smbios"><oemStrings><entry>text</entry></oemStrings></sysinfo>
  <features><ioapic driver="qemu"/></features>
  <cpu mode="host-passthrough"><maxphysaddr mode="passthrough"/></cpu>
  <iommufd enabled="yes" fdgroup="iommu"/>
  <devices>
    <controller type="pci" index="24" model="pcie-root-port">
      <model name="pcie-root-port"/><target chassis="24" port="0x80" hotplug="off"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x10" function="0x0" multifunction="on"/>
    </controller>
    <controller type="pci" index="1" model="pcie-expander-bus"><target busNr="254"><node>1</node></target></controller>
    <controller type="pci" index="0" model="pcie-root"><pcihole64 unit="KiB">1</pcihole64></controller>
    <hostdev mode="subsystem" type="pci" managed="yes" display="on" ramfb="on">
      <driver name="vfio" iommufd="yes"><model name="x"/></driver>
      <source writeFiltering="no" startupPolicy="optional"><address domain="0x0000" bus="0x3b" slot="0x00" function="0x0"/></source>
      <teaming type="transient" persistent="ua-net"/>
      <boot order="1"/><alias name="ua-gpu-gpu0"/><rom bar="off"/><acpi nodeset="2"/>
      <address type="pci" domain="0x0000" bus="0x18" slot="0x00" function="0x0" multifunction="on"/>
    </hostdev>
    <iommu model="intel"><driver intremap="on" caching_mode="on"/></iommu>
  </devices>
  <qemu:commandline><qemu:arg value="-snapshot"/></qemu:commandline>
  <qemu:override><qemu:device alias="ua-gpu-gpu0"/></qemu:override>
</domain>`

// What comes back from one pass to the next has gone through this struct: what it drops, the hook must
// write again each time. A "dropped" that turns to "kept" is KubeVirt's progress, and no fault of ours.
func TestWhatIsLeftOfADomainInKubeVirtsStruct(t *testing.T) {
	spec := &api.DomainSpec{}
	if err := xml.Unmarshal([]byte(everyPart), spec); err != nil {
		t.Fatal(err)
	}
	text, err := xml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	domain := parsed(t, string(text))
	table := harness.NewTable("interop-read-back", "What KubeVirt 1.9's api.DomainSpec keeps of a domain", "part", "kept")
	defer table.Write(t)
	devices := map[string]*Node{"": domain}
	for _, device := range domain.Find("devices").Children {
		devices[device.Tag()+" "+device.Attr("model")] = device
	}
	for _, part := range []struct{ device, kept, dropped string }{
		{"", "maxMemory@slots iommufd@fdgroup", "memtune sysinfo/oemStrings features/ioapic cpu/maxphysaddr commandline override"},
		{"hostdev ", "@mode @type @managed @display @ramfb source/address@bus boot@order alias@name address@bus driver@iommufd acpi@nodeset",
			"driver@name driver/model source@writeFiltering source@startupPolicy teaming rom address@multifunction"},
		{"controller pcie-root-port", "@index address@slot", "address@multifunction model@name target@chassis target@port target@hotplug"},
		{"controller pcie-expander-bus", "target@busNr target/node", ""},
		{"controller pcie-root", "pcihole64", ""},
		{"iommu intel", "@model", "driver@caching_mode"},
	} {
		for _, path := range strings.Fields(part.kept) {
			probe(t, table, devices[part.device], part.device, path, true)
		}
		for _, path := range strings.Fields(part.dropped) {
			probe(t, table, devices[part.device], part.device, path, false)
		}
	}
}

func probe(t *testing.T, table *harness.Table, at *Node, where, path string, kept bool) {
	t.Helper()
	element, attribute, _ := strings.Cut(path, "@")
	found := at
	if element != "" {
		found = at.Find(strings.Split(element, "/")...)
	}
	is := found != nil && (attribute == "" || found.Attr(attribute) != "")
	if is != kept {
		t.Errorf("%s %s: kept is %v, README.md and the contract say %v", where, path, is, kept)
	}
	table.Row(strings.TrimSpace(where+" "+path), map[bool]string{true: "kept", false: "dropped"}[is])
}
