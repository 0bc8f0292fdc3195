package launcher

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/dra"
	"launcher-hook/interop/harness"
)

const draDriver = "devices.example.com"

// claimed is which device of the node backs a request of a claim, for the claims of all tests.
var claimed = map[v1.ClaimRequest]string{}

// claimant makes entries of a VMI ask for resource claims, and allocates those as the scheduler does.
type claimant struct {
	vmi       *v1.VirtualMachineInstance
	templates bool // a ResourceClaimTemplate for each entry, or one ResourceClaim with a request for each
	capitals  bool // the driver writes hexadecimal digits so
	claims    []resourcev1.ResourceClaim
	devices   map[string]map[string]resourcev1.DeviceAttribute
	taken     map[string]int
}

func newClaimant(vmi *v1.VirtualMachineInstance, templates bool) *claimant {
	return &claimant{
		vmi: vmi, templates: templates, taken: map[string]int{},
		devices: map[string]map[string]resourcev1.DeviceAttribute{},
	}
}

// everyEntry makes each entry of gpus and hostDevices a claim's, but for USB devices, which have no
// metadata in KubeVirt.
func (c *claimant) everyEntry() *claimant {
	for number := range c.vmi.Spec.Domain.Devices.GPUs {
		c.gpu(number)
	}
	for number := range c.vmi.Spec.Domain.Devices.HostDevices {
		c.hostDevice(number)
	}
	return c
}

func (c *claimant) gpu(number int) {
	entry := &c.vmi.Spec.Domain.Devices.GPUs[number]
	if source := c.take(entry.DeviceName); source != "" {
		entry.DeviceName, entry.ClaimRequest = "", c.claim(attributes(source))
		claimed[*entry.ClaimRequest] = source
	}
}

func (c *claimant) hostDevice(number int) {
	entry := &c.vmi.Spec.Domain.Devices.HostDevices[number]
	if source := c.take(entry.DeviceName); source != "" {
		entry.DeviceName, entry.ClaimRequest = "", c.claim(attributes(source))
		claimed[*entry.ClaimRequest] = source
	}
}

// networks makes the network of each SR-IOV interface a claim's.
func (c *claimant) networks() *claimant {
	for number := range c.vmi.Spec.Networks {
		network := &c.vmi.Spec.Networks[number]
		if function := sriovFunctions[network.Name]; function != "" {
			network.NetworkSource = v1.NetworkSource{ResourceClaim: c.claim(attributes(function))}
		}
	}
	return c
}

// take is a device of a resource, from the end: from the front a device plugin gives them to entries
// that stay with their resource.
func (c *claimant) take(resource string) string {
	ids := slices.Concat(functions[resource], mediated[resource])
	if len(ids) == 0 {
		return ""
	}
	c.taken[resource]++
	return ids[len(ids)-c.taken[resource]]
}

// attributes are what a driver tells of a device: of a mediated device its parent's address too.
func attributes(source string) map[string]string {
	if strings.Contains(source, ":") {
		return map[string]string{"resource.kubernetes.io/pciBusID": source}
	}
	return map[string]string{"mdevUUID": source, "resource.kubernetes.io/pciBusID": "0000:5e:00.0"}
}

// claim adds a request with one device, and gives what an entry says of it. Claims have names that no
// other process has: KubeVirt looks for their files below one directory of the whole machine.
func (c *claimant) claim(device map[string]string) *v1.ClaimRequest {
	request := fmt.Sprintf("request-%d", len(c.devices))
	if c.templates || len(c.claims) == 0 {
		unique := string(uuid.NewUUID())[:13]
		claim := resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: c.vmi.Namespace, Name: "claim-" + unique, UID: uuid.NewUUID(),
		}}
		reference := v1.VirtualMachineInstanceResourceClaim{Name: "pod-claim-" + unique, ResourceClaimName: &claim.Name}
		if c.templates {
			template := "template-" + unique
			reference.ResourceClaimName, reference.ResourceClaimTemplateName = nil, &template
			claim.Name = "generated-" + unique // kube-controller-manager chooses it
			// k8s.io/api/resource/v1 of 1.37: PodResourceClaimAnnotation
			claim.Annotations = map[string]string{"resource.kubernetes.io/pod-claim-name": reference.Name}
		}
		if claim.Namespace == "" {
			claim.Namespace = "default"
		}
		claim.Status.Allocation = &resourcev1.AllocationResult{}
		c.claims = append(c.claims, claim)
		c.vmi.Spec.ResourceClaims = append(c.vmi.Spec.ResourceClaims, reference)
	}
	last := &c.claims[len(c.claims)-1]
	last.Spec.Devices.Requests = append(last.Spec.Devices.Requests, resourcev1.DeviceRequest{
		Name: request, Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: draDriver, Count: 1},
	})
	c.allocate(last, request, device)
	return &v1.ClaimRequest{ClaimName: c.vmi.Spec.ResourceClaims[len(c.vmi.Spec.ResourceClaims)-1].Name, RequestName: request}
}

// allocate gives a request one device more.
func (c *claimant) allocate(claim *resourcev1.ResourceClaim, request string, device map[string]string) {
	name := fmt.Sprintf("device-%d", len(c.devices))
	values := map[string]resourcev1.DeviceAttribute{}
	for attribute, value := range device {
		if c.capitals {
			value = strings.ToUpper(value)
		}
		values[attribute] = resourcev1.DeviceAttribute{StringValue: &value}
	}
	c.devices["node/"+name] = values
	claim.Status.Allocation.Devices.Results = append(claim.Status.Allocation.Devices.Results,
		resourcev1.DeviceRequestAllocationResult{Request: request, Driver: draDriver, Pool: "node", Device: name})
}

// node is what tests/interop/kubelet/drametadata is told.
type node struct {
	Driver   string
	Versions []string
	Claims   []resourcev1.ResourceClaim
	Devices  map[string]map[string]resourcev1.DeviceAttribute
	Late     bool
}

// everyVersion of the metadata that Kubernetes 1.37 has, newest first as its library recommends.
var everyVersion = []string{"v1beta1", "v1alpha1"}

// prepare has Kubernetes' own library write the files where compute has them, and takes them away at
// the end of the test.
func (c *claimant) prepare(t *testing.T, versions []string, late bool) {
	t.Helper()
	if len(c.claims) == 0 {
		return
	}
	for _, claim := range c.vmi.Spec.ResourceClaims {
		directory := filepath.Join(dra.DefaultMetadataBasePath, "resourceclaimtemplates", claim.Name)
		if claim.ResourceClaimName != nil {
			directory = filepath.Join(dra.DefaultMetadataBasePath, "resourceclaims", *claim.ResourceClaimName)
		}
		t.Cleanup(func() { _ = os.RemoveAll(directory) })
	}
	program, err := metadataProgram()
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(node{draDriver, versions, c.claims, c.devices, late})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "/")
	command.Stdin = bytes.NewReader(told)
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("drametadata: %v; KubeVirt knows the files below %s only: run this test as root\n%s",
			err, dra.DefaultMetadataBasePath, said)
	}
}

// metadataProgram is built with Kubernetes 1.37's modules: KubeVirt 1.9 is bound to 1.34's, which have
// no metadata.
var metadataProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(state, "drametadata")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./drametadata")
	build.Dir = filepath.Join(harness.Root(), "tests/interop/kubelet")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said)
	}
	return program, nil
})
