package launcher

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/hooks"
	"launcher-hook/interop/harness"
)

const gpuVMI = "fixtures/vmis/two-gpus.yaml"

// boot collects the sidecars of a directory and defines the VMI; Define's error is the caller's.
func boot(t *testing.T, directory string, sidecars uint, vmi *v1.VirtualMachineInstance) (hooks.Manager, error) {
	t.Helper()
	real.Forget()
	t.Cleanup(real.Forget)
	manager := HookManager(directory)
	if err := manager.Collect(sidecars, patience); err != nil {
		t.Fatal(err)
	}
	return manager, Define(real, vmi, converted(t, vmi, Pod{}))
}

// waitForSocket waits until somebody answers there; a predecessor's stale socket does not.
func waitForSocket(t *testing.T, directory, name string) {
	t.Helper()
	harness.Eventually(t, name+" answers", func() bool {
		connection, err := net.Dial("unix", filepath.Join(directory, name, name+".sock"))
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
}

func checkPasses(t *testing.T, wanted map[string]Wanted) {
	t.Helper()
	addresses := map[string]string{}
	for pass, xml := range real.Defined {
		checkDevices(t, pass+1, parsed(t, xml), wanted, addresses, xml)
	}
	if len(real.Defined) != 3 {
		t.Errorf("%d passes, expected 3", len(real.Defined))
	}
}

func TestEachProtocolVersionAloneIsEnough(t *testing.T) {
	for _, version := range []string{"v1alpha1", "v1alpha2", "v1alpha3"} {
		t.Run(version, func(t *testing.T) {
			vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
			wanted := allocate(t, vmi)
			directory := harness.ShortDir(t)
			program := ours(t, directory, "hook-sidecar-0", "--versions", version)
			manager, err := boot(t, directory, 1, vmi)
			if err != nil {
				t.Fatal(err)
			}
			checkPasses(t, wanted)
			if err := manager.Shutdown(); err != nil {
				t.Error(err)
			}
			if version != "v1alpha3" { // Shutdown came with v1alpha3; before it kubelet ends the sidecar
				_ = program.Signal(syscall.SIGTERM)
			}
			if status := program.ExitStatus(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

func TestASecondOfOursChangesNothing(t *testing.T) {
	vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
	wanted := allocate(t, vmi)
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	waitForSocket(t, directory, "hook-sidecar-0") // they are called in the order of their readiness
	between := record(t, directory, "hook-sidecar-1")
	ours(t, directory, "hook-sidecar-2")
	if _, err := boot(t, directory, 3, vmi); err != nil {
		t.Fatal(err)
	}
	checkPasses(t, wanted)
	for pass, xml := range real.Defined {
		if xml != between.Domains[pass] {
			t.Errorf("pass %d: the second changed the first one's reply:\n%s\n%s", pass+1, between.Domains[pass], xml)
		}
	}
}

func TestASidecarThatIsKilledAndComesBackIsUsedAgain(t *testing.T) {
	vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
	wanted := allocate(t, vmi)
	directory := harness.ShortDir(t)
	recorder := record(t, directory, "hook-sidecar-0")
	program := ours(t, directory, "hook-sidecar-1")
	socket := filepath.Join(directory, "hook-sidecar-1", "hook-sidecar-1.sock")
	recorder.Before = func(int) {
		program.Kill()
		if _, err := os.Stat(socket); err != nil {
			t.Errorf("SIGKILL leaves a stale socket: %v", err)
		}
		program = ours(t, directory, "hook-sidecar-1")
		waitForSocket(t, directory, "hook-sidecar-1")
	}
	if _, err := boot(t, directory, 2, vmi); err != nil {
		t.Fatal(err)
	}
	checkPasses(t, wanted)
}

func TestARefusalStopsTheBootWithOurWords(t *testing.T) {
	vmi := readVMI(t, filepath.Join(harness.Root(), gpuVMI))
	allocate(t, vmi)
	write(vmi, `slots: {gpu7: "0000:20:00.0"}`)
	directory := harness.ShortDir(t)
	ours(t, directory, "hook-sidecar-0")
	_, err := boot(t, directory, 1, vmi)
	if err == nil || !strings.Contains(err.Error(), "gpu7") {
		t.Errorf("virt-launcher goes on, or does not say which: %v", err)
	}
	if len(real.Defined) != 0 {
		t.Error("a domain was defined")
	}
	t.Logf("virt-launcher's event: %v", err)
}
