package launcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	pluginv1alpha1 "kubevirt.io/api/plugin/v1alpha1"

	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/plugins"
	"launcher-hook/interop/harness"
)

// KubeVirt takes sockets of plugins below this directory only.
const pluginDirectory = "/var/run/kubevirt-plugin"

// ourPlugin starts launcher-hook with the plugin API beside the hook API, and says how the cluster
// would name it.
func ourPlugin(t *testing.T, hooks string) (*harness.Program, pluginv1alpha1.Plugin) {
	t.Helper()
	if err := os.MkdirAll(pluginDirectory, 0o755); errors.Is(err, fs.ErrPermission) {
		t.Fatalf("%v; KubeVirt knows this directory only: run this test as root", err)
	}
	directory, err := os.MkdirTemp(pluginDirectory, "launcher-hook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	socket := filepath.Join(directory, "plugin.sock")
	program := ours(t, hooks, "hook-sidecar-0", "--plugin-socket", socket)
	return program, pluginv1alpha1.Plugin{
		ObjectMeta: metav1.ObjectMeta{Name: filepath.Base(directory)},
		Spec: pluginv1alpha1.PluginSpec{DomainHooks: []pluginv1alpha1.DomainHook{{
			Sidecar: &pluginv1alpha1.SidecarDomainHook{SocketPath: socket},
			Timeout: &metav1.Duration{Duration: 30 * time.Second},
		}}},
	}
}

func gpuCase(t *testing.T) (*v1.VirtualMachineInstance, map[string]Wanted, *api.DomainSpec) {
	t.Helper()
	vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
	wanted := allocate(t, vmi)
	return vmi, wanted, converted(t, vmi, Pod{})
}

// KubeVirt 1.9.0 converts its own hostdevs, which have no mode, to libvirtxml, which needs one. No
// plugin is called for such a VM, and none can help.
func TestKubeVirt19CallsNoPluginForAPCIHostdev(t *testing.T) {
	vmi, _, spec := gpuCase(t)
	program, plugin := ourPlugin(t, harness.ShortDir(t))
	_, _, err := plugins.ApplyDomainHooks([]pluginv1alpha1.Plugin{plugin}, vmi, spec, pluginv1alpha1.InvocationContextBoot)
	if err == nil || !strings.Contains(err.Error(), "converting DomainSpec to libvirtxml") {
		t.Errorf("KubeVirt has mended this: drop it from README.md and from the contract: %v", err)
	}
	t.Logf("virt-launcher's event: %v", err)
	if log := program.Log(); strings.Contains(log, "two-gpus") {
		t.Errorf("the plugin was called:\n%s", log)
	}
}

// The fault is not the plugin's: one that nothing matches, of somebody else, stops the VM as well.
func TestKubeVirt19StopsAVMThatNoPluginMatches(t *testing.T) {
	vmi, _, spec := gpuCase(t)
	for name, other := range map[string]pluginv1alpha1.PluginSpec{
		"condition": {Condition: "false", DomainHooks: []pluginv1alpha1.DomainHook{{
			CEL: &pluginv1alpha1.CELDomainHook{Expression: "Domain{}"},
		}}},
		"node hooks alone": {NodeHooks: []pluginv1alpha1.NodeHook{{Socket: "/run/x.sock"}}},
		"nothing":          {},
	} {
		plugin := pluginv1alpha1.Plugin{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: other}
		_, _, err := plugins.ApplyDomainHooks([]pluginv1alpha1.Plugin{plugin}, vmi, spec, pluginv1alpha1.InvocationContextBoot)
		if err == nil || !strings.Contains(err.Error(), "Missing 'mode' attribute") {
			t.Errorf("%s: KubeVirt has mended this: tell launcher_hook/doctor/plugins.py: %v", name, err)
		}
	}
}

// A vGPU's hostdev has its mode: for a VM with mediated devices alone the plugin does the whole job.
func TestThePluginAloneDoesTheJobForAMediatedDevice(t *testing.T) {
	vmi := readVMI(t, filepath.Join(harness.Root(), "fixtures/vmis/vgpu.yaml"))
	wanted := allocate(t, vmi)
	spec := converted(t, vmi, Pod{})
	_, plugin := ourPlugin(t, harness.ShortDir(t))
	_, xml, err := plugins.ApplyDomainHooks([]pluginv1alpha1.Plugin{plugin}, vmi, spec, pluginv1alpha1.InvocationContextBoot)
	if err != nil {
		t.Fatal(err)
	}
	checkDevices(t, 1, parsed(t, xml), wanted, map[string]string{}, xml)
}

// With the mode in the domain, as a later KubeVirt writes it, the plugin alone does the whole job.
func TestThePluginAloneDoesTheJobOnceTheModeIsThere(t *testing.T) {
	vmi, wanted, spec := gpuCase(t)
	for number := range spec.Devices.HostDevices {
		spec.Devices.HostDevices[number].Mode = "subsystem"
	}
	_, plugin := ourPlugin(t, harness.ShortDir(t))
	updated, xml, err := plugins.ApplyDomainHooks([]pluginv1alpha1.Plugin{plugin}, vmi, spec, pluginv1alpha1.InvocationContextBoot)
	if err != nil {
		t.Fatal(err)
	}
	checkDevices(t, 1, parsed(t, xml), wanted, map[string]string{}, xml)
	if count := len(updated.Devices.HostDevices); count != len(wanted) {
		t.Errorf("KubeVirt reads %d hostdevs of %d back", count, len(wanted))
	}
}

// As a hook sidecar, the same process adds the mode before the plugins are called: every pass works.
func TestHookSidecarAndPluginTogetherGoThroughThePasses(t *testing.T) {
	vmi, wanted, spec := gpuCase(t)
	directory := harness.ShortDir(t)
	program, plugin := ourPlugin(t, directory)
	plugins.SetPlugins([]pluginv1alpha1.Plugin{plugin})
	defer plugins.SetPlugins(nil)
	real.Forget()
	defer real.Forget()
	manager := HookManager(directory)
	if err := manager.Collect(1, patience); err != nil {
		t.Fatal(err)
	}
	if err := Define(real, vmi, spec); err != nil {
		t.Fatal(err)
	}
	checkPasses(t, wanted)
	if err := manager.Shutdown(); err != nil {
		t.Error(err)
	}
	if status := program.ExitStatus(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// A VM without passed-through devices comes through the pipeline as libvirtxml leaves it.
func TestThePluginLeavesAVMWithoutDevicesAlone(t *testing.T) {
	vmi, _, spec := gpuCase(t)
	vmi.Spec.Domain.Devices.GPUs, spec.Devices.HostDevices = nil, nil
	_, plugin := ourPlugin(t, harness.ShortDir(t))
	nothing := plugin.DeepCopy()
	nothing.Spec.DomainHooks[0] = pluginv1alpha1.DomainHook{CEL: &pluginv1alpha1.CELDomainHook{Expression: "Domain{}"}}
	apply := func(with pluginv1alpha1.Plugin) *Node {
		_, xml, err := plugins.ApplyDomainHooks([]pluginv1alpha1.Plugin{with}, vmi, spec.DeepCopy(), pluginv1alpha1.InvocationContextBoot)
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, xml)
	}
	without, with := apply(*nothing), apply(plugin)
	if lost := slices.Concat(Lost(without, with), Lost(with, without)); len(lost) != 0 {
		t.Errorf("changed: %s", strings.Join(lost, "\n"))
	}
}
