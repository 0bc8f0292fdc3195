// Package kubelet is Kubernetes' own device and topology manager, on a directory of its own.
package kubelet

import (
	"context"
	"path/filepath"
	"sync"
	_ "unsafe" // for go:linkname

	cadvisorapi "github.com/google/cadvisor/lib/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"

	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
)

// NewManagerImpl is this with /var/lib/kubelet/device-plugins/kubelet.sock.
//
//go:linkname newManagerImpl k8s.io/kubernetes/pkg/kubelet/cm/devicemanager.newManagerImpl
func newManagerImpl(klog.Logger, string, []cadvisorapi.Node, topologymanager.Store) (*devicemanager.ManagerImpl, error)

// Kubelet is a node with two NUMA nodes.
type Kubelet struct {
	devices  *devicemanager.ManagerImpl
	topology topologymanager.Manager
	logger   klog.Logger
	mutex    sync.Mutex
	pods     []*v1.Pod
}

// Start does what kubelet does when it starts: reads the checkpoint, deletes every socket in its
// directory, and listens. The pods are those that the API server says are on the node.
func Start(directory, policy string, pods ...*v1.Pod) (*Kubelet, error) {
	nodes := []cadvisorapi.Node{{Id: 0}, {Id: 1}}
	logger := klog.Background()
	topology, err := topologymanager.NewManager(logger, nodes, policy, topologymanager.ContainerTopologyScope, nil)
	if err != nil {
		return nil, err
	}
	devices, err := newManagerImpl(logger, filepath.Join(directory, "kubelet.sock"), nodes, topology)
	if err != nil {
		return nil, err
	}
	topology.AddHintProvider(logger, devices)
	kubelet := &Kubelet{devices: devices, topology: topology, logger: logger, pods: pods}
	ready := config.NewSourcesReady(func(sets.Set[string]) bool { return true })
	return kubelet, devices.Start(logger, kubelet.activePods, ready, containermap.NewContainerMap(), sets.New[string]())
}

// Stop ends it as a crash of kubelet does: nobody is told.
func (k *Kubelet) Stop() error { return k.devices.Stop(k.logger) }

// Capacity and allocatable of a resource, as in the Node's status. -1 is a resource unknown to it.
func (k *Kubelet) Capacity(resource string) (capacity, allocatable int64) {
	capacities, allocatables, _ := k.devices.GetCapacity(k.logger)
	quantity := func(list v1.ResourceList) int64 {
		if value, known := list[v1.ResourceName(resource)]; known {
			return value.Value()
		}
		return -1
	}
	return quantity(capacities), quantity(allocatables)
}

// Admit gives a pod its devices, container by container, or says why not.
func (k *Kubelet) Admit(pod *v1.Pod) lifecycle.PodAdmitResult {
	k.mutex.Lock()
	k.pods = append(k.pods, pod)
	k.mutex.Unlock()
	result := k.topology.Admit(context.Background(), &lifecycle.PodAdmitAttributes{Pod: pod, Operation: lifecycle.AddOperation})
	if !result.Admit {
		k.Remove(pod)
	}
	return result
}

// Remove is the end of a pod; its devices are free with the next Admit.
func (k *Kubelet) Remove(pod *v1.Pod) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for number, active := range k.pods {
		if active.UID == pod.UID {
			k.pods = append(k.pods[:number:number], k.pods[number+1:]...)
			return
		}
	}
}

// Options are what kubelet tells the container runtime: variables and device nodes.
func (k *Kubelet) Options(pod *v1.Pod, container string) (*devicemanager.DeviceRunContainerOptions, error) {
	for _, candidate := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if candidate.Name == container {
			return k.devices.GetDeviceRunContainerOptions(context.Background(), pod, &candidate)
		}
	}
	return nil, nil
}

// Health is what the pod's status says of a container's device; since Kubernetes 1.36.
func (k *Kubelet) Health(pod *v1.Pod, container, resource, device string) v1.ResourceHealthStatus {
	status := &v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: container}}}
	k.devices.UpdateAllocatedResourcesStatus(k.logger, pod, status)
	for _, allocated := range status.ContainerStatuses[0].AllocatedResourcesStatus {
		for _, health := range allocated.Resources {
			if allocated.Name == v1.ResourceName(resource) && health.ResourceID == v1.ResourceID(device) {
				return health.Health
			}
		}
	}
	return v1.ResourceHealthStatusUnknown
}

func (k *Kubelet) activePods() []*v1.Pod {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return append([]*v1.Pod(nil), k.pods...)
}
