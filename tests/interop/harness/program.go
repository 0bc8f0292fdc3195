// Package harness runs our real program for the tests and prints their tables.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Wide: the machine is shared, and a slow one is no wrong result.
const patience = 90 * time.Second

// Root is the repository's directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Clean(filepath.Join(filepath.Dir(file), "../../.."))
}

// Program is a running launcher-hook.
type Program struct {
	command *exec.Cmd
	log     *os.File
	exited  chan int
}

// program is the clone's, or the one that LAUNCHER_HOOK names.
func program() string {
	if other := os.Getenv("LAUNCHER_HOOK"); other != "" {
		return other
	}
	return filepath.Join(Root(), ".venv/bin/launcher-hook")
}

// Start runs launcher-hook with these arguments; the test's end kills it. Of the environment it
// has no PCI_RESOURCE_ variable, as in a real sidecar, but what is given here.
func Start(t testing.TB, environ []string, arguments ...string) *Program {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	started := &Program{
		command: exec.Command(program(), arguments...),
		log:     log,
		exited:  make(chan int, 1),
	}
	for _, variable := range os.Environ() {
		if !strings.Contains(variable, "PCI_RESOURCE") {
			started.command.Env = append(started.command.Env, variable)
		}
	}
	started.command.Env = append(started.command.Env, environ...)
	started.command.Stdout, started.command.Stderr = log, log
	if err := started.command.Start(); err != nil {
		t.Fatalf("%v; make setup brings the program", err)
	}
	go func() {
		_ = started.command.Wait()
		started.exited <- started.command.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		started.Kill()
		if t.Failed() {
			t.Logf("launcher-hook %s said:\n%s", strings.Join(arguments, " "), started.Log())
		}
	})
	return started
}

// Run runs launcher-hook to its end, with the variables of this process. It gives back what it wrote
// to stdout and to stderr, and its exit status.
func Run(t testing.TB, arguments ...string) (out, said string, status int) {
	t.Helper()
	var stdout, stderr strings.Builder
	command := exec.Command(program(), arguments...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil && command.ProcessState == nil {
		t.Fatalf("%v; make setup brings the program", err)
	}
	return stdout.String(), stderr.String(), command.ProcessState.ExitCode()
}

// Kill is SIGKILL, and waits until the process is gone.
func (p *Program) Kill() {
	if p.command.Process.Kill() == nil {
		p.exited <- <-p.exited
	}
}

// Signal is for SIGTERM and the like.
func (p *Program) Signal(signal os.Signal) error { return p.command.Process.Signal(signal) }

// ExitStatus waits for the end. -1 is a death by a signal.
func (p *Program) ExitStatus(t testing.TB) int {
	t.Helper()
	select {
	case status := <-p.exited:
		p.exited <- status
		return status
	case <-time.After(patience):
		t.Fatalf("the program did not end in %v", patience)
		return -1
	}
}

// Running is false once the program has ended.
func (p *Program) Running() bool {
	select {
	case status := <-p.exited:
		p.exited <- status
		return false
	default:
		return true
	}
}

// Log is what the program has said so far.
func (p *Program) Log() string {
	said, _ := os.ReadFile(p.log.Name())
	return string(said)
}

// WriteNode writes the /sys of a node that node.py knows; it gives the directory back.
func WriteNode(root, name string) (string, error) { return root, Node("build", root, name) }

// Node runs node.py, which writes and changes a node's /sys.
func Node(arguments ...string) error {
	script := filepath.Join(Root(), "tests/interop/node.py")
	command := exec.Command(filepath.Join(Root(), ".venv/bin/python"), append([]string{script}, arguments...)...)
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("node.py %s: %w\n%s", strings.Join(arguments, " "), err, said)
	}
	return nil
}

// Eventually waits until a condition holds, which it asks for again and again.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// ShortDir is a directory with a path short enough for unix sockets (108 bytes).
func ShortDir(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("/tmp", "lh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return directory
}
