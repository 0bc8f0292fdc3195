// Package v1beta1 stands in for a module that the Go proxy does not serve.
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// VirtualMachineTemplate is named by an informer that virt-launcher never starts.
type VirtualMachineTemplate struct {
	metav1.TypeMeta
	metav1.ObjectMeta
}

func (t *VirtualMachineTemplate) DeepCopyObject() runtime.Object { copied := *t; return &copied }
