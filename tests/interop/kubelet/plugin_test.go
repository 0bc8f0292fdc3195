package kubelet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"

	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"launcher-hook/interop/harness"
)

func TestMain(m *testing.M) {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(new(silence))
	os.Exit(m.Run())
}

type silence struct{}

func (silence) Write(line []byte) (int, error) { return len(line), nil }

func TestDeviceManager(t *testing.T) {
	table = harness.NewTable("interop-kubelet", "Kubernetes 1.37's device and topology manager with our plugin", "case", "what", "result")
	defer table.Write(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"registered", testRegistered},
		{"one container", testOneContainer},
		{"several containers", testSeveralContainers},
		{"init container", testInitContainer},
		{"two resources", testTwoResources},
		{"preferred allocation", testPreferredAllocation},
		{"best-effort", testBestEffort},
		{"single-numa-node", testSingleNUMANode},
		{"kubelet comes later", testKubeletComesLater},
		{"kubelet restarts", testKubeletRestarts},
		{"kubelet restarts 20 times", testKubeletRestartsOften},
		{"unhealthy", testUnhealthy},
		{"unplugged", testUnplugged},
		{"plugin killed", testPluginKilled},
		{"plugin killed 10 times", testPluginKilledOften},
		{"plugin ends", testPluginEnds},
		{"refused by the plugin", testRefused},
	} {
		t.Run(test.name, test.run)
	}
}

func testRegistered(t *testing.T) {
	newNode(t, topologymanager.PolicyNone).expect("registered", 4, 4)
}

func testOneContainer(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	given := node.admit(pod("one", 1))
	if len(given[0]) != 1 {
		t.Errorf("given: %v", given)
	}
	row(t, "one device", given)
}

func testSeveralContainers(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	given := node.admit(pod("several", 1, 0, 2, 1))
	all := slices.Concat(given...)
	slices.Sort(all)
	if len(given[0]) != 1 || len(given[1]) != 0 || len(given[2]) != 2 || len(given[3]) != 1 || len(slices.Compact(all)) != 4 {
		t.Errorf("given: %v", given)
	}
	row(t, "containers with 1, none, 2, 1", given)
	if result := node.kubelet.Admit(pod("too-much", 1)); result.Admit {
		t.Error("a fifth device was given out")
	}
}

func testInitContainer(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	shared := pod("init", 2)
	shared.Spec.InitContainers = []v1.Container{container("first", 1)}
	given := node.admit(shared)
	before := node.given(shared, "first")
	if len(given[0]) != 2 || !slices.Contains(given[0], before[0]) {
		t.Errorf("init container %v, then %v", before, given)
	}
	row(t, "init container's device goes on to the container", given)
}

// One container with two resources: each plugin server answers for its own.
func testTwoResources(t *testing.T) {
	node := newNode(t, topologymanager.PolicySingleNumaNode)
	node.expect("registered", 4, 4)
	harness.Eventually(t, teslaT4+" registered", func() bool {
		_, allocatable := node.kubelet.Capacity(teslaT4)
		return allocatable == 1
	})
	both := pod("both", 1)
	both.Spec.Containers[0].Resources.Limits[teslaT4] = *resource.NewQuantity(1, resource.DecimalSI)
	if result := node.kubelet.Admit(both); !result.Admit {
		t.Fatal(result.Message)
	}
	options, err := node.kubelet.Options(both, "c0")
	must(t, err)
	variables := map[string]string{}
	for _, env := range options.Envs {
		variables[env.Name] = env.Value
	}
	nodes := []string{}
	for _, device := range options.Devices {
		nodes = append(nodes, device.PathInContainer)
	}
	slices.Sort(nodes)
	mine := variables[variable]
	if wanted := []string{"/dev/vfio/" + group[mine], "/dev/vfio/34", "/dev/vfio/vfio"}; !slices.Equal(nodes, wanted) {
		t.Errorf("device nodes %v, expected %v", nodes, wanted)
	}
	if len(variables) != 2 || variables["PCI_RESOURCE_NVIDIA_COM_TU104GL_TESLA_T4"] != "0000:86:00.0" {
		t.Errorf("variables: %v", variables)
	}
	row(t, "a card of each kind, one without NUMA node", fmt.Sprint(variables))
}

// Without a topology manager only our preferred allocation keeps two cards of one node together.
func testPreferredAllocation(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	for round := range 8 { // kubelet itself would choose at random
		two := pod(fmt.Sprintf("two-%d", round), 2)
		given := node.admit(two)
		if nodes := nodesOf(given[0]); len(nodes) != 1 {
			t.Errorf("round %d: %v are on NUMA nodes %v", round, given[0], nodes)
		}
		node.kubelet.Remove(two)
	}
	first, second := node.admit(pod("a", 1)), node.admit(pod("b", 2))
	if nodes := nodesOf(second[0]); len(nodes) != 1 || nodes[0] == nodesOf(first[0])[0] {
		t.Errorf("after %v, two devices: %v", first, second)
	}
	row(t, "two devices, eight times, then beside a taken one", "one NUMA node each time")
}

func testBestEffort(t *testing.T) {
	node := newNode(t, topologymanager.PolicyBestEffort)
	node.expect("registered", 4, 4)
	first := node.admit(pod("one", 1))
	second := node.admit(pod("two", 2))
	if nodes := nodesOf(second[0]); len(nodes) != 1 || nodes[0] == nodesOf(first[0])[0] {
		t.Errorf("after %v, two devices: %v", first, second)
	}
	row(t, "one device, then two", fmt.Sprint(first, " ", second))
	node.kubelet.Remove(pod("one", 1))
	node.kubelet.Remove(pod("two", 2))
	third := node.admit(pod("three", 3))
	row(t, "three devices, on no one NUMA node", fmt.Sprint("admitted: ", third))
}

func testSingleNUMANode(t *testing.T) {
	node := newNode(t, topologymanager.PolicySingleNumaNode)
	node.expect("registered", 4, 4)
	first := node.admit(pod("one", 1))
	second := node.admit(pod("two", 2))
	if nodes := nodesOf(second[0]); len(nodes) != 1 || nodes[0] == nodesOf(first[0])[0] {
		t.Errorf("after %v, two devices: %v", first, second)
	}
	row(t, "one device, then two", fmt.Sprint(first, " ", second))
	node.kubelet.Remove(pod("one", 1))
	node.kubelet.Remove(pod("two", 2))
	result := node.kubelet.Admit(pod("three", 3))
	if result.Admit || result.Reason != "TopologyAffinityError" {
		t.Errorf("three devices on nodes of two: %+v", result)
	}
	row(t, "three devices", result.Reason)
}

// At boot a DaemonSet's pod may run before kubelet has its socket again.
func testKubeletComesLater(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	must(t, node.kubelet.Stop())
	node.plugin.Kill()
	node.startPlugin()
	harness.Eventually(t, "the plugin has found its devices", func() bool { return strings.Contains(node.plugin.Log(), "offering 4") })
	node.startKubelet(topologymanager.PolicyNone)
	node.expect("kubelet is there", 4, 4)
}

func testKubeletRestarts(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	running := pod("running", 2)
	before := node.admit(running)
	must(t, node.kubelet.Stop())
	node.startKubelet(topologymanager.PolicyNone, running)
	node.expect("kubelet restarted, plugin registered again", 4, 4)
	if after := node.given(running, "c0"); !slices.Equal(after, before[0]) {
		t.Errorf("the running pod had %v, the checkpoint says %v", before[0], after)
	}
	next := node.admit(pod("next", 2))
	for _, address := range next[0] {
		if slices.Contains(before[0], address) {
			t.Errorf("%s was given to a second pod", address)
		}
	}
	row(t, "the running pod keeps", fmt.Sprint(before, ", the next one gets ", next))
}

func testKubeletRestartsOften(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	for restart := range 20 {
		must(t, node.kubelet.Stop())
		node.startKubelet(topologymanager.PolicyNone)
		harness.Eventually(t, fmt.Sprintf("registered again after restart %d", restart+1), func() bool {
			_, allocatable := node.kubelet.Capacity(gpuResource)
			return allocatable == 4
		})
	}
	row(t, "20 restarts, one right after the other", "registered again each time")
}

func testUnhealthy(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	running := pod("running", 1)
	device := node.admit(running)[0][0]
	expectHealth := func(what string, health v1.ResourceHealthStatus) {
		t.Helper()
		if has := node.kubelet.Health(running, "c0", gpuResource, device); has != health {
			t.Errorf("%s: the pod's status says %s", what, has)
		}
		row(t, what, fmt.Sprintf("status of the pod that has it: %s", health))
	}
	expectHealth(device+" given to a pod", v1.ResourceHealthStatusHealthy)
	must(t, harness.Node("rebind", node.sys, device, ""))
	node.expect(device+" unbound from vfio-pci", 4, 3)
	expectHealth(device+" unbound from vfio-pci", v1.ResourceHealthStatusUnhealthy)
	others := slices.DeleteFunc([]string{"0000:3b:00.0", "0000:5e:00.0", "0000:af:00.0", "0000:d8:00.0"},
		func(other string) bool { return other == device })
	must(t, os.Remove(node.dev+"/vfio/"+group[others[0]]))
	node.expect("/dev/vfio/"+group[others[0]]+" gone", 4, 2)
	if given := node.admit(pod("two", 2)); !slices.Equal(given[0], others[1:]) {
		t.Errorf("given: %v", given)
	}
	must(t, harness.Node("rebind", node.sys, device, "nouveau"))
	node.expect("bound to nouveau: it is the host's again", 3, 2)
	must(t, harness.Node("rebind", node.sys, device, "vfio-pci"))
	must(t, os.WriteFile(node.dev+"/vfio/"+group[others[0]], nil, 0o644))
	node.expect("both back", 4, 4)
	expectHealth(device+" back", v1.ResourceHealthStatusHealthy)
}

func testUnplugged(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	for function := range 4 {
		must(t, harness.Node("remove", node.sys, fmt.Sprintf("0000:d8:00.%d", function)))
	}
	must(t, os.Remove(node.dev+"/vfio/33"))
	harness.Eventually(t, "three allocatable", func() bool {
		_, allocatable := node.kubelet.Capacity(gpuResource)
		return allocatable == 3
	})
	capacity, allocatable := node.kubelet.Capacity(gpuResource)
	row(t, "a card pulled out", fmt.Sprintf("capacity %d, allocatable %d", capacity, allocatable))
}

func testPluginKilled(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	running := pod("running", 1)
	before := node.admit(running)
	node.plugin.Kill()
	node.expect("SIGKILL", 4, 0)
	if result := node.kubelet.Admit(pod("meanwhile", 1)); result.Admit {
		t.Error("a pod was admitted without a plugin")
	}
	node.startPlugin()
	node.expect("back", 4, 4)
	if after := node.given(running, "c0"); !slices.Equal(after, before[0]) {
		t.Errorf("the running pod had %v, has %v", before[0], after)
	}
	row(t, "three more", node.admit(pod("next", 3)))
}

func testPluginKilledOften(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	for kill := range 10 {
		node.plugin.Kill() // and back before kubelet may have heard of it
		node.startPlugin()
		one := pod(fmt.Sprintf("one-%d", kill), 1)
		harness.Eventually(t, fmt.Sprintf("a pod is admitted after kill %d", kill+1), func() bool {
			return node.kubelet.Admit(one).Admit
		})
		node.kubelet.Remove(one)
	}
	row(t, "10 kills, started again at once", "a pod is admitted after each")
}

func testPluginEnds(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	must(t, node.plugin.Signal(syscall.SIGTERM))
	if status := node.plugin.ExitStatus(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	node.expect("SIGTERM", 4, 0)
	left, _ := filepath.Glob(node.plugins + "/*.sock")
	if len(left) != 1 { // kubelet's own
		t.Errorf("left behind: %v", left)
	}
	node.startPlugin()
	node.expect("started again", 4, 4)
}

// What kubelet does not know yet, the plugin refuses, and the pod fails with its words.
func testRefused(t *testing.T) {
	node := newNode(t, topologymanager.PolicyNone)
	node.expect("registered", 4, 4)
	must(t, os.Rename(node.dev+"/vfio", node.dev+"/away"))
	result := node.kubelet.Admit(pod("early", 4))
	if result.Admit {
		t.Error("admitted without device nodes")
	}
	row(t, "pod admitted before kubelet heard that /dev/vfio is gone", result.Message)
}
