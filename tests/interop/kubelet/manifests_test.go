package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	policies "k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	workloads "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	objects "k8s.io/kubernetes/pkg/apis/core/validation"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"launcher-hook/interop/harness"
)

// What an API server does with a manifest, in its own code: decode it, with fieldValidation=Strict,
// default it, convert it, validate it. CEL expressions are compiled with their types.
var strict = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).
	UniversalDecoder()

func admit(manifest []byte) (runtime.Object, error) {
	object, err := runtime.Decode(strict, manifest)
	if err != nil {
		return nil, err
	}
	var faults field.ErrorList
	switch object := object.(type) {
	case *apps.DaemonSet:
		options := podutil.GetValidationOptionsFromPodTemplate(&object.Spec.Template, nil)
		faults = workloads.ValidateDaemonSet(object, options)
	case *core.ConfigMap:
		faults = objects.ValidateConfigMap(object)
	case *admissionregistration.MutatingAdmissionPolicy:
		faults = policies.ValidateMutatingAdmissionPolicy(object)
	case *admissionregistration.MutatingAdmissionPolicyBinding:
		faults = policies.ValidateMutatingAdmissionPolicyBinding(object)
	default:
		return nil, field.InternalError(nil, os.ErrInvalid)
	}
	return object, faults.ToAggregate()
}

func manifests() string { return filepath.Join(harness.Root(), "sidecar-image/manifests") }

func kustomize(t *testing.T, directory string) map[string][]byte {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	must(t, err)
	documents := map[string][]byte{}
	for _, resource := range built.Resources() {
		documents[resource.GetKind()], err = resource.AsYAML()
		must(t, err)
	}
	return documents
}

func admitDevicePlugin(t *testing.T, directory string) (*apps.DaemonSet, *core.ConfigMap) {
	t.Helper()
	admitted := map[string]runtime.Object{}
	for kind, document := range kustomize(t, directory) {
		object, err := admit(document)
		if err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, document)
		}
		admitted[kind] = object
	}
	if len(admitted) != 2 {
		t.Fatalf("the base is a DaemonSet and its ConfigMap, not %v", admitted)
	}
	return admitted["DaemonSet"].(*apps.DaemonSet), admitted["ConfigMap"].(*core.ConfigMap)
}

func TestAnAPIServerTakesWhatKustomizeMakesOfTheDevicePlugin(t *testing.T) {
	daemonSet, configMap := admitDevicePlugin(t, filepath.Join(manifests(), "device-plugin"))
	pod := daemonSet.Spec.Template.Spec
	if image := pod.Containers[0].Image; !strings.HasPrefix(image, "launcher-hook:") {
		t.Errorf("image is %s", image)
	}
	for _, volume := range pod.Volumes {
		if volume.ConfigMap != nil && volume.ConfigMap.Name != configMap.Name {
			t.Errorf("the volume is of %s, the ConfigMap is %s", volume.ConfigMap.Name, configMap.Name)
		}
	}
	if daemonSet.Namespace != "kubevirt" || configMap.Namespace != "kubevirt" {
		t.Errorf("namespaces are %s and %s", daemonSet.Namespace, configMap.Namespace)
	}
}

// As the comment of kustomization.yaml and the README say it.
func TestTheDevicePluginIsABaseForAnOverlay(t *testing.T) {
	base := filepath.Join(manifests(), "device-plugin")
	overlay, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	relative, err := filepath.Rel(overlay, base)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(overlay, "config.yaml"), []byte("selectors: [{vendor: \"1002\"}]\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(`
namespace: gpus
resources: [`+relative+`]
images: [{name: launcher-hook, newName: registry.example/launcher-hook, newTag: 9.9.9}]
configMapGenerator: [{name: launcher-hook-device-plugin, behavior: replace, files: [config.yaml]}]
`), 0o644))
	daemonSet, configMap := admitDevicePlugin(t, overlay)
	if image := daemonSet.Spec.Template.Spec.Containers[0].Image; image != "registry.example/launcher-hook:9.9.9" {
		t.Errorf("image is %s", image)
	}
	if daemonSet.Namespace != "gpus" || !strings.Contains(configMap.Data["config.yaml"], "1002") {
		t.Errorf("%s, %v", daemonSet.Namespace, configMap.Data)
	}
}

func TestAnAPIServerTakesThePolicyThatInjectsTheSidecar(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(manifests(), "plugin.yaml"))
	must(t, err)
	taken := 0
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		if !strings.Contains(document, "apiVersion: admissionregistration.k8s.io") {
			continue // KubeVirt's own kind: see launcher/
		}
		if _, err := admit([]byte(document)); err != nil {
			t.Error(err)
		}
		taken++
	}
	if taken != 2 {
		t.Errorf("%d of a policy and its binding", taken)
	}
}

func TestAnAPIServerSeesWhatIsWrongWithAManifest(t *testing.T) {
	daemonSet := string(kustomize(t, filepath.Join(manifests(), "device-plugin"))["DaemonSet"])
	policy := readPolicy(t)
	for _, fault := range []struct{ document, from, to, says string }{
		{daemonSet, "readOnlyRootFilesystem", "readonlyRootFilesystem", `unknown field "spec.template.spec.containers[0].securityContext.readonlyRootFilesystem"`},
		{daemonSet, "matchLabels:", "matchlabels:", "unknown field"},
		{daemonSet, "maxUnavailable: 10%", "maxUnavailable: 110%", "must not be greater than 100%"},
		{daemonSet, "port: metrics", "port: Metrics!", "must contain only"},
		{daemonSet, "periodSeconds: 2\n", "periodSeconds: two\n", "json: cannot unmarshal string"},
		{policy, `op: "add", path:`, `op: "add" path:`, "spec.mutations[0].jsonPatch.expression"},
		{policy, "exists(v,", "exists(v", "spec.matchConditions[0].expression"},
	} {
		if !strings.Contains(fault.document, fault.from) {
			t.Errorf("%q is not in the manifest", fault.from)
		}
		_, err := admit([]byte(strings.Replace(fault.document, fault.from, fault.to, 1)))
		if err == nil || !strings.Contains(err.Error(), fault.says) {
			t.Errorf("%s: %v", fault.to, err)
		}
	}
}
