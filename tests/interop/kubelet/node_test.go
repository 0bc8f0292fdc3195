package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"launcher-hook/interop/harness"
)

const (
	gpuResource = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"
	variable    = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"
	teslaT4     = "nvidia.com/TU104GL_TESLA_T4"
	pciIDs      = "10de  NVIDIA Corporation\n\t1eb8  TU104GL [Tesla T4]\n\t1f08  TU106 [GeForce RTX 2060 Rev. A]\n"
)

// The four cards of the node that node.py calls kubelet: two on each NUMA node, one IOMMU group each.
var (
	group = map[string]string{"0000:3b:00.0": "30", "0000:5e:00.0": "31", "0000:af:00.0": "32", "0000:d8:00.0": "33"}
	numa  = map[string]int{"0000:3b:00.0": 0, "0000:5e:00.0": 0, "0000:af:00.0": 1, "0000:d8:00.0": 1}
	table *harness.Table
)

// Node is a node with our plugin on it.
type Node struct {
	t                 *testing.T
	plugins, sys, dev string
	kubelet           *Kubelet
	plugin            *harness.Program
}

func newNode(t *testing.T, policy string) *Node {
	t.Helper()
	base := harness.ShortDir(t)
	node := &Node{t: t, plugins: base + "/plugins", sys: base + "/sys", dev: base + "/dev"}
	must(t, os.MkdirAll(node.plugins, 0o755))
	must(t, os.MkdirAll(node.dev+"/vfio", 0o755))
	must(t, os.WriteFile(base+"/pci.ids", []byte(pciIDs), 0o644))
	must(t, harness.Node("build", node.sys, "kubelet"))
	for _, name := range []string{"vfio", "30", "31", "32", "33", "34"} {
		must(t, os.WriteFile(filepath.Join(node.dev, "vfio", name), nil, 0o644))
	}
	node.startKubelet(policy)
	node.startPlugin()
	t.Cleanup(func() { _ = node.kubelet.Stop() })
	return node
}

func (n *Node) startKubelet(policy string, pods ...*v1.Pod) {
	n.t.Helper()
	var err error
	n.kubelet, err = Start(n.plugins, policy, pods...)
	must(n.t, err)
}

func (n *Node) startPlugin() {
	n.plugin = harness.Start(n.t, nil, "device-plugin", "--kubelet-dir", n.plugins, "--sysfs", n.sys,
		"--dev", n.dev, "--pci-ids", filepath.Dir(n.plugins)+"/pci.ids", "--rescan", "2s")
}

// expect waits until the Node's status has these numbers.
func (n *Node) expect(what string, capacity, allocatable int64) {
	n.t.Helper()
	harness.Eventually(n.t, fmt.Sprintf("%s: capacity %d, allocatable %d", what, capacity, allocatable), func() bool {
		have, free := n.kubelet.Capacity(gpuResource)
		if allocatable > 0 && !n.plugin.Running() {
			n.t.Fatalf("%s: the plugin has ended", what)
		}
		return have == capacity && free == allocatable
	})
	row(n.t, what, fmt.Sprintf("capacity %d, allocatable %d", capacity, allocatable))
}

// admit lets a pod on the node and gives back what each of its containers got.
func (n *Node) admit(pod *v1.Pod) [][]string {
	n.t.Helper()
	if result := n.kubelet.Admit(pod); !result.Admit {
		n.t.Fatalf("%s: not admitted: %s: %s", pod.Name, result.Reason, result.Message)
	}
	var given [][]string
	for _, container := range pod.Spec.Containers {
		given = append(given, n.given(pod, container.Name))
	}
	return given
}

// given are the addresses in a container's variable; its device nodes must be theirs and no others.
func (n *Node) given(pod *v1.Pod, container string) []string {
	n.t.Helper()
	options, err := n.kubelet.Options(pod, container)
	must(n.t, err)
	if options == nil {
		return nil
	}
	var addresses []string
	for _, env := range options.Envs {
		if env.Name != variable {
			n.t.Errorf("%s/%s: variable %s", pod.Name, container, env.Name)
		}
		addresses = strings.Split(env.Value, ",")
	}
	wanted := []string{}
	if len(addresses) > 0 {
		wanted = append(wanted, "/dev/vfio/vfio")
	}
	for _, address := range addresses {
		wanted = append(wanted, "/dev/vfio/"+group[address])
	}
	nodes := []string{}
	for _, device := range options.Devices {
		if device.PathOnHost != n.dev+strings.TrimPrefix(device.PathInContainer, "/dev") && device.PathOnHost != device.PathInContainer {
			n.t.Errorf("%s/%s: %s is %s on the host", pod.Name, container, device.PathInContainer, device.PathOnHost)
		}
		if device.Permissions != "mrw" && device.Permissions != "rw" {
			n.t.Errorf("%s/%s: %s with %q", pod.Name, container, device.PathInContainer, device.Permissions)
		}
		nodes = append(nodes, device.PathInContainer)
	}
	slices.Sort(nodes)
	slices.Sort(wanted)
	if !slices.Equal(nodes, wanted) {
		n.t.Errorf("%s/%s: device nodes %v, expected %v", pod.Name, container, nodes, wanted)
	}
	if !slices.IsSorted(addresses) {
		n.t.Errorf("%s/%s: %v is not in order", pod.Name, container, addresses)
	}
	return addresses
}

// pod asks for so many devices in each of its containers.
func pod(name string, counts ...int64) *v1.Pod {
	made := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}}
	for number, count := range counts {
		made.Spec.Containers = append(made.Spec.Containers, container(fmt.Sprintf("c%d", number), count))
	}
	return made
}

func container(name string, count int64) v1.Container {
	limits := v1.ResourceList{}
	if count > 0 {
		limits[gpuResource] = *resource.NewQuantity(count, resource.DecimalSI)
	}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Limits: limits, Requests: limits}}
}

func nodesOf(addresses []string) []int {
	var nodes []int
	for _, address := range addresses {
		nodes = append(nodes, numa[address])
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func row(t *testing.T, cells ...any) {
	_, name, _ := strings.Cut(t.Name(), "/")
	table.Row(append([]any{strings.ReplaceAll(name, "_", " ")}, cells...)...)
}
