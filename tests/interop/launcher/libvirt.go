package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"

	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/cli"
)

// Libvirt is the connection that virt-launcher works on: libvirt's own qemu driver, inside this
// process, with its state in a directory of its own. It keeps what it is given to define.
type Libvirt struct {
	cli.Connection // what is not defined below is not called
	connect        *libvirt.Connect
	Defined        []string
	last           *libvirt.Domain
}

// Open starts libvirt with its state below a directory with a short path. tests/libvirt_driver.py
// says why qemu.conf is as it is, and that tini must be above this process.
func Open(directory string) (*Libvirt, error) {
	if err := os.Mkdir(filepath.Join(directory, "etc"), 0o755); err != nil {
		return nil, err
	}
	conf := "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nremember_owner = 0\n"
	if err := os.WriteFile(filepath.Join(directory, "etc/qemu.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return nil, err
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil {
		}
	}()
	connect, err := libvirt.NewConnect("qemu:///embed?root=" + directory)
	return &Libvirt{connect: connect}, err
}

// Version is the library's, e.g. 9.0.0.
func (l *Libvirt) Version() string {
	number, _ := l.connect.GetLibVersion()
	return fmt.Sprintf("%d.%d.%d", number/1_000_000, number/1000%1000, number%1000)
}

// DomainDefineXML is where each pass of virt-launcher ends.
func (l *Libvirt) DomainDefineXML(xml string) (cli.VirDomain, error) {
	l.Defined = append(l.Defined, xml)
	domain, err := l.connect.DomainDefineXML(xml)
	if err != nil {
		return nil, err
	}
	l.last = domain
	return domain, nil
}

// ReadBack is the inactive XML of what was defined last.
func (l *Libvirt) ReadBack() (string, error) {
	return l.last.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
}

// Forget undefines what was defined, for the next test.
func (l *Libvirt) Forget() {
	l.Defined = nil
	if l.last != nil {
		_ = l.last.UndefineFlags(libvirt.DOMAIN_UNDEFINE_NVRAM)
		l.last = nil
	}
}

// FitForThisMachine takes out of a launcher's domain what an older libvirt or QEMU does not have,
// or what needs this machine's hardware. It is done before any hook sees the domain.
func FitForThisMachine(spec *api.DomainSpec) {
	spec.Type = "qemu" // no KVM
	spec.CPU.Mode, spec.CPU.Model, spec.CPU.Features = "", "", nil
	spec.MaxMemory = nil // newer than libvirt 9.0 without slots
	if spec.CPU.NUMA == nil {
		spec.NUMATune = nil // newer than 9.0 without guest cells
	}
	spec.Devices.TPMs = nil
	spec.Devices.Watchdogs = slices.DeleteFunc(spec.Devices.Watchdogs, func(watchdog api.Watchdog) bool {
		return watchdog.Model == "itco" // newer than 9.0
	})
	for _, family := range []struct{ prefix, newest string }{{"pc-q35-", "q35"}, {"pc-i440fx-", "pc"}, {"virt-", "virt"}} {
		if strings.HasPrefix(spec.OS.Type.Machine, family.prefix) {
			spec.OS.Type.Machine = family.newest // "pc-q35-rhel9.6.0" is another distribution's
		}
	}
}
