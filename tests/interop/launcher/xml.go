package launcher

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Node is any element of a domain, so that nothing is lost that a struct would not know.
type Node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []*Node    `xml:",any"`
}

// Parse reads a domain.
func Parse(text string) (*Node, error) {
	domain := &Node{}
	return domain, xml.Unmarshal([]byte(text), domain)
}

// Tag is the element's name.
func (n *Node) Tag() string { return n.XMLName.Local }

// Attr is an attribute's value, "" if there is none; of no element there is none.
func (n *Node) Attr(name string) string {
	if n != nil {
		for _, attribute := range n.Attrs {
			if attribute.Name.Local == name {
				return attribute.Value
			}
		}
	}
	return ""
}

// Find is the first element on a path of tags, nil if there is none.
func (n *Node) Find(path ...string) *Node {
	for _, tag := range path {
		if n == nil {
			return nil
		}
		found := slices.IndexFunc(n.Children, func(child *Node) bool { return child.Tag() == tag })
		if found < 0 {
			return nil
		}
		n = n.Children[found]
	}
	return n
}

// Canonical is the same text for what is the same to libvirt: order of attributes and of
// children, white space and namespaces' prefixes do not count.
func (n *Node) Canonical() string {
	parts := []string{}
	for _, attribute := range n.Attrs {
		if attribute.Name.Space != "xmlns" && attribute.Name.Local != "xmlns" {
			parts = append(parts, fmt.Sprintf("@%s=%q", attribute.Name.Local, attribute.Value))
		}
	}
	for _, child := range n.Children {
		parts = append(parts, child.Canonical())
	}
	slices.Sort(parts)
	return fmt.Sprintf("%s(%s %s)", n.Tag(), strings.TrimSpace(n.Text), strings.Join(parts, " "))
}

// IsPassedThrough tells hostdevs of PCI functions and mediated devices from all other elements.
func (n *Node) IsPassedThrough() bool {
	return n.Tag() == "hostdev" && (n.Attr("type") == "pci" || n.Attr("type") == "mdev")
}

// PassedThrough are a domain's hostdevs by the function's host address or the mediated device's UUID.
func (n *Node) PassedThrough() map[string]*Node {
	found := map[string]*Node{}
	for _, device := range n.Find("devices").Children {
		if device.IsPassedThrough() {
			source := device.Find("source", "address")
			found[strings.ToLower(source.Attr("uuid"))+source.PCI()] = device
		}
	}
	return found
}

// PCI is an address element as 0000:3b:00.0, "" if it is none.
func (n *Node) PCI() string {
	if n.Attr("bus") == "" {
		return ""
	}
	var parts [4]int64
	for number, name := range []string{"domain", "bus", "slot", "function"} {
		parts[number], _ = strconv.ParseInt(n.Attr(name), 0, 32)
	}
	return fmt.Sprintf("%04x:%02x:%02x.%d", parts[0], parts[1], parts[2], parts[3])
}

// OtherAddresses are the guest addresses of every device but passed-through ones and root ports, by a
// name that does not depend on the address.
func (n *Node) OtherAddresses() map[string]string {
	found := map[string]string{}
	numbers := map[string]int{}
	for _, device := range n.Find("devices").Children {
		address := device.Find("address")
		if device.IsPassedThrough() || device.Attr("model") == "pcie-root-port" || address.Attr("type") != "pci" {
			continue
		}
		kind := strings.Join([]string{device.Tag(), device.Attr("type"), device.Attr("model"), device.Find("alias").Attr("name")}, " ")
		found[fmt.Sprintf("%s %d", kind, numbers[kind])] = address.PCI()
		numbers[kind]++
	}
	return found
}

// Place is where a device is in a guest's NUMA topology.
type Place struct {
	Cell, BusNr string // of the expander bus
	Slot        string // of the root port on it
	Port        string // the root port's index
}

func (p Place) String() string {
	if p.Port == "" {
		return "no expander bus"
	}
	return fmt.Sprintf("cell %s, busNr %s, slot %s", p.Cell, p.BusNr, p.Slot)
}

// Places are those of the passed-through devices by host address; one that is not behind a root port
// of an expander bus has the zero Place.
func (n *Node) Places() map[string]Place {
	controllers := map[int64]*Node{}
	for _, device := range n.Find("devices").Children {
		if device.Tag() == "controller" && device.Attr("type") == "pci" {
			controllers[device.number("index")] = device
		}
	}
	found := map[string]Place{}
	for host, device := range n.PassedThrough() {
		found[host] = Place{}
		port := controllers[device.Find("address").number("bus")]
		if port.Attr("model") != "pcie-root-port" {
			continue
		}
		address := port.Find("address")
		if bus := controllers[address.number("bus")]; bus.Attr("model") == "pcie-expander-bus" {
			found[host] = Place{
				strings.TrimSpace(bus.Find("target", "node").Text), bus.Find("target").Attr("busNr"),
				fmt.Sprintf("%#02x", address.number("slot")), port.Attr("index"),
			}
		}
	}
	return found
}

// PCIControllers are a domain's, by index and model.
func (n *Node) PCIControllers() []string {
	var found []string
	for _, device := range n.Find("devices").Children {
		if device.Tag() == "controller" && device.Attr("type") == "pci" {
			found = append(found, device.Attr("index")+" "+device.Attr("model"))
		}
	}
	slices.Sort(found)
	return found
}

func (n *Node) number(name string) int64 {
	value, _ := strconv.ParseInt(n.Attr(name), 0, 32)
	return value
}

// FreePorts counts the root ports with nothing behind them: what is left for hotplug.
func (n *Node) FreePorts() int {
	used := map[string]bool{}
	for _, device := range n.Find("devices").Children {
		if address := device.Find("address"); address.Attr("type") == "pci" {
			bus, _ := strconv.ParseInt(address.Attr("bus"), 0, 32)
			used[strconv.FormatInt(bus, 10)] = true
		}
	}
	free := 0
	for _, device := range n.Find("devices").Children {
		if device.Attr("model") == "pcie-root-port" && !used[device.Attr("index")] {
			free++
		}
	}
	return free
}

// ports are the models whose chassis and port KubeVirt's read-back drops.
var ports = []string{"pcie-root-port", "pcie-switch-downstream-port"}

// Lost is what a hook was given and has not given back. Passed-through devices may change, and a port
// may get its chassis and port again.
func Lost(given, back *Node) []string {
	kept := map[string]int{}
	for _, element := range elements(back) {
		kept[element]++
	}
	var lost []string
	for _, element := range elements(given) {
		if kept[element]--; kept[element] < 0 {
			lost = append(lost, element)
		}
	}
	return lost
}

// LostOfDevice is what a passed-through device had before the hook and has not after it. Managed and
// mode are the hook's to set, and so are addresses, of which checkDevices has the last word.
func LostOfDevice(given, back *Node) []string {
	var lost []string
	for _, attribute := range given.Attrs {
		name := attribute.Name.Local
		if name != "managed" && name != "mode" && back.Attr(name) != attribute.Value {
			lost = append(lost, "@"+name)
		}
	}
	for _, child := range given.Children {
		switch kept := back.Find(child.Tag()); {
		case child.Tag() == "source", child.Tag() == "address", child.Tag() == "alias":
		case child.Tag() == "driver" && kept != nil: // the hook may add which one libvirt binds
			for _, attribute := range child.Attrs {
				if kept.Attr(attribute.Name.Local) != attribute.Value {
					lost = append(lost, "driver@"+attribute.Name.Local)
				}
			}
		case kept == nil || kept.Canonical() != child.Canonical():
			lost = append(lost, child.Canonical())
		}
	}
	return lost
}

func elements(domain *Node) []string {
	var found []string
	for _, child := range domain.Children {
		if child.Tag() != "devices" {
			found = append(found, child.Canonical())
			continue
		}
		for _, device := range child.Children {
			switch {
			case device.IsPassedThrough():
			case slices.Contains(ports, device.Attr("model")):
				found = append(found, device.Attr("model")+" "+device.Attr("index")+" at "+device.Find("address").PCI())
			default:
				found = append(found, device.Canonical())
			}
		}
	}
	return found
}
