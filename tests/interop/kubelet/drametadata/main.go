// drametadata is a DRA driver, the kubelet that calls it and the container runtime that mounts what it
// made. Kubernetes' own kubeletplugin library does the driver's part: it serves kubelet's gRPC calls and
// writes the device metadata of KEP-5304 and the CDI specs.
//
//	drametadata ROOT < node.json
//
// ROOT stands for the container's /: the metadata files of all claims are in ROOT/var/run/kubernetes.io.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/dynamic-resource-allocation/api/metadata"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	cdi "tags.cncf.io/container-device-interface/specs-go"
)

// Node is what this program is told, as JSON.
type Node struct {
	Driver   string
	Versions []string // of the metadata, in the order in which the driver lists them
	Claims   []resourcev1.ResourceClaim
	// Devices has the attributes of each device by pool and name, "pool/name".
	Devices map[string]map[string]resourcev1.DeviceAttribute
	// Late has the driver tell the attributes after the claims are prepared, as a network driver does.
	Late bool
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: drametadata ROOT < node.json")
	}
	node := Node{}
	if err := json.NewDecoder(os.Stdin).Decode(&node); err != nil {
		log.Fatal(err)
	}
	if err := run(node, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(node Node, root string) error {
	directory, err := os.MkdirTemp("/tmp", "dra") // short: a socket is in it
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := apiServer(node.Claims)
	if err != nil {
		return err
	}
	var versions []schema.GroupVersion
	for _, version := range node.Versions {
		versions = append(versions, schema.GroupVersion{Group: metadata.GroupName, Version: version})
	}
	driver := &driver{node}
	helper, err := kubeletplugin.Start(ctx, driver,
		kubeletplugin.DriverName(node.Driver),
		kubeletplugin.KubeClient(client),
		kubeletplugin.RegistrationService(false),
		kubeletplugin.PluginDataDirectoryPath(directory),
		kubeletplugin.CDIDirectory(filepath.Join(directory, "cdi")),
		kubeletplugin.EnableDeviceMetadata(true, versions),
	)
	if err != nil {
		return err
	}
	defer helper.Stop()
	devices, err := prepare(ctx, filepath.Join(directory, "dra.sock"), node.Claims)
	if err != nil {
		return err
	}
	if node.Late {
		if err := driver.tell(ctx, helper); err != nil {
			return err
		}
	}
	return mount(filepath.Join(directory, "cdi"), devices, root)
}

// driver prepares nothing: it names the devices that were allocated, and their attributes.
type driver struct{ node Node }

func (d *driver) PrepareResourceClaims(_ context.Context, claims []*resourcev1.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	results := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		results[claim.UID] = kubeletplugin.PrepareResult{Devices: d.devices(claim, !d.node.Late)}
	}
	return results, nil
}

func (d *driver) devices(claim *resourcev1.ResourceClaim, withMetadata bool) []kubeletplugin.Device {
	var devices []kubeletplugin.Device
	for _, result := range claim.Status.Allocation.Devices.Results {
		device := kubeletplugin.Device{Requests: []string{result.Request}, PoolName: result.Pool, DeviceName: result.Device}
		if withMetadata {
			device.Metadata = &kubeletplugin.DeviceMetadata{Attributes: d.node.Devices[result.Pool+"/"+result.Device]}
		}
		devices = append(devices, device)
	}
	return devices
}

// tell gives the attributes of every request, when the claims are prepared already.
func (d *driver) tell(ctx context.Context, helper *kubeletplugin.Helper) error {
	for _, claim := range d.node.Claims {
		byRequest := map[string][]kubeletplugin.Device{}
		for _, device := range d.devices(&claim, true) {
			byRequest[device.Requests[0]] = append(byRequest[device.Requests[0]], device)
		}
		for request, devices := range byRequest {
			if err := helper.UpdateRequestMetadata(ctx, claim.Namespace, claim.Name, claim.UID, request, devices); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *driver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	results := map[types.UID]error{}
	for _, claim := range claims {
		results[claim.UID] = nil
	}
	return results, nil
}

func (d *driver) HandleError(_ context.Context, err error, msg string) {
	log.Printf("%s: %v", msg, err)
}

func (d *driver) WatchHealthStatus(context.Context, chan<- kubeletplugin.DeviceHealthReport) error {
	return kubeletplugin.ErrHealthNotSupported
}

// apiServer answers the one question that the library asks: what a claim is.
func apiServer(claims []resourcev1.ResourceClaim) (kubernetes.Interface, error) {
	server := http.NewServeMux()
	for _, claim := range claims {
		claim.APIVersion, claim.Kind = "resource.k8s.io/v1", "ResourceClaim"
		path := fmt.Sprintf("GET /apis/resource.k8s.io/v1/namespaces/%s/resourceclaims/%s", claim.Namespace, claim.Name)
		server.HandleFunc(path, func(answer http.ResponseWriter, _ *http.Request) {
			answer.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(answer).Encode(claim)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = http.Serve(listener, server) }()
	return kubernetes.NewForConfig(&rest.Config{Host: "http://" + listener.Addr().String()})
}

// prepare calls the driver as kubelet does before it starts a pod. It gives the CDI devices back that
// kubelet would hand to the container runtime.
func prepare(ctx context.Context, socket string, claims []resourcev1.ResourceClaim) ([]string, error) {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	request := &drav1.NodePrepareResourcesRequest{}
	for _, claim := range claims {
		request.Claims = append(request.Claims, &drav1.Claim{Namespace: claim.Namespace, Name: claim.Name, Uid: string(claim.UID)})
	}
	answer, err := drav1.NewDRAPluginClient(connection).NodePrepareResources(ctx, request)
	if err != nil {
		return nil, err
	}
	var devices []string
	for _, claim := range claims {
		prepared := answer.Claims[string(claim.UID)]
		if prepared.GetError() != "" {
			return nil, fmt.Errorf("claim %s: %s", claim.Name, prepared.GetError())
		}
		for _, device := range prepared.GetDevices() {
			devices = append(devices, device.CdiDeviceIds...)
		}
	}
	return devices, nil
}

// mount does what a container runtime does with CDI devices that are nothing but mounts of files. A
// copy stands for the mount.
func mount(specs string, devices []string, root string) error {
	files, err := filepath.Glob(filepath.Join(specs, "*.json"))
	if err != nil {
		return err
	}
	mounts := map[string][]*cdi.Mount{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		spec := cdi.Spec{}
		if err := json.Unmarshal(text, &spec); err != nil {
			return err
		}
		for _, device := range spec.Devices {
			mounts[spec.Kind+"="+device.Name] = device.ContainerEdits.Mounts
		}
	}
	for _, device := range devices {
		for _, mount := range mounts[device] {
			text, err := os.ReadFile(mount.HostPath)
			if err != nil {
				return err
			}
			target := filepath.Join(root, mount.ContainerPath)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(target, text, 0o644); err != nil {
				return err
			}
		}
		if len(mounts[device]) == 0 {
			return fmt.Errorf("CDI device %s is in no spec of %s: %v", device, specs, slices.Collect(maps.Keys(mounts)))
		}
	}
	return nil
}
