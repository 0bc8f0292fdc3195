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
			found[source.Attr("uuid")+source.PCI()] = device
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
		kind := strings.Join([]string{device.Tag(), device.Attr("type"), device.Find("alias").Attr("name")}, " ")
		found[fmt.Sprintf("%s %d", kind, numbers[kind])] = address.PCI()
		numbers[kind]++
	}
	return found
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

// Lost is what a hook was given and has not given back. Passed-through devices may change, and a root
// port may get the chassis and port that KubeVirt's read-back drops.
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
			case device.Attr("model") == "pcie-root-port":
				found = append(found, "root port "+device.Attr("index")+" at "+device.Find("address").PCI())
			default:
				found = append(found, device.Canonical())
			}
		}
	}
	return found
}
