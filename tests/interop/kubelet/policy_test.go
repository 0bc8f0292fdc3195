package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	admission "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	admissions "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	objects "k8s.io/kubernetes/pkg/apis/core/validation"
)

// The policy of plugin.yaml, run by the API server's own evaluator on a launcher's pod.

func launcherPod(initContainers ...v1.Container) *v1.Pod {
	sockets := v1.Volume{Name: "kubevirt-plugin-sockets", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}
	compute := v1.Container{Name: "compute", Image: "virt-launcher"}
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "virt-launcher-vm-x", Namespace: "default"},
		Spec: v1.PodSpec{
			Volumes: []v1.Volume{sockets}, InitContainers: initContainers, Containers: []v1.Container{compute},
		},
	}
	legacyscheme.Scheme.Default(pod)
	return pod
}

func readPolicy(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(manifests(), "plugin.yaml"))
	must(t, err)
	return strings.Split(string(content), "\n---\n")[1]
}

// mutate gives the pod as the policy leaves it, and false where its conditions do not match.
func mutate(t *testing.T, manifest string, pod *v1.Pod) (*v1.Pod, bool, error) {
	t.Helper()
	var policy admission.MutatingAdmissionPolicy
	must(t, runtime.DecodeInto(legacyscheme.Codecs.UniversalDeserializer(), []byte(manifest), &policy))
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	must(t, err)
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	kind, resource := v1.SchemeGroupVersion.WithKind("Pod"), v1.SchemeGroupVersion.WithResource("pods")
	create := admissions.NewAttributesRecord(pod, nil, kind, pod.Namespace, pod.Name, resource, "", admissions.Create, nil, false, nil)
	attributes := &admissions.VersionedAttributes{
		Attributes: create, VersionedKind: kind, VersionedObject: admissions.NewLazyObject(pod),
	}

	var conditions []cel.ExpressionAccessor
	for _, condition := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&condition))
	}
	compiled := compiler.CompileCondition(conditions, options, environment.StoredExpressions)
	matcher := matchconditions.NewMatcher(compiled, policy.Spec.FailurePolicy, "policy", "mutate", policy.Name)
	match := matcher.Match(t.Context(), attributes, nil, nil)
	if match.Error != nil || !match.Matches {
		return pod, false, match.Error
	}

	options.HasPatchTypes = true
	if len(policy.Spec.Mutations) != 1 {
		t.Fatalf("%d mutations", len(policy.Spec.Mutations))
	}
	expression := &patch.JSONPatchCondition{Expression: policy.Spec.Mutations[0].JSONPatch.Expression}
	evaluator := compiler.CompileMutatingEvaluator(expression, options, environment.StoredExpressions)
	object, err := patch.NewJSONPatcher(evaluator).Patch(t.Context(), patch.Request{
		MatchedResource:     resource,
		VersionedAttributes: attributes,
		ObjectInterfaces:    admissions.NewObjectInterfacesFromScheme(legacyscheme.Scheme),
	}, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return nil, true, err
	}
	return object.(*v1.Pod), true, nil
}

func TestThePolicyPutsASidecarIntoALauncherPodThatAnAPIServerTakes(t *testing.T) {
	for name, pod := range map[string]*v1.Pod{
		"alone":             launcherPod(),
		"with another init": launcherPod(v1.Container{Name: "container-disk", Image: "x"}),
	} {
		t.Run(name, func(t *testing.T) {
			had := len(pod.Spec.InitContainers)
			mutated, matched, err := mutate(t, readPolicy(t), pod)
			must(t, err)
			if !matched || len(mutated.Spec.InitContainers) != had+1 {
				t.Fatalf("matched %v, %v", matched, mutated.Spec.InitContainers)
			}
			legacyscheme.Scheme.Default(mutated)
			var internal core.Pod
			must(t, legacyscheme.Scheme.Convert(mutated, &internal, nil))
			options := podutil.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
			if faults := objects.ValidatePodCreate(&internal, options); len(faults) != 0 {
				t.Error(faults.ToAggregate())
			}
			added := mutated.Spec.InitContainers[had]
			if added.Name != "plugin-launcher-hook" || *added.RestartPolicy != v1.ContainerRestartPolicyAlways ||
				added.Resources.Limits.Memory().String() != "64M" || !*added.SecurityContext.RunAsNonRoot {
				t.Errorf("%+v", added)
			}
			// Called once more, as after another policy's change, it adds none.
			if _, matched, err := mutate(t, readPolicy(t), mutated); matched || err != nil {
				t.Errorf("a second time: matched %v, %v", matched, err)
			}
		})
	}
}

func TestThePolicyLeavesAPodWithoutPluginSocketsAlone(t *testing.T) {
	pod := launcherPod()
	pod.Spec.Volumes[0].Name = "others"
	if _, matched, err := mutate(t, readPolicy(t), pod); matched || err != nil {
		t.Errorf("matched %v, %v", matched, err)
	}
}

func TestAFieldOfAnotherTypeInThePolicyIsSeen(t *testing.T) {
	faulty := strings.Replace(readPolicy(t), "runAsUser: 107", `runAsUser: "107"`, 1)
	if _, _, err := mutate(t, faulty, launcherPod()); err == nil {
		t.Error("a user in quotes was taken")
	}
}
