package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"sigs.k8s.io/yaml"

	"launcher-hook/interop/harness"
)

var definitions = map[string]func() (*extensions.CustomResourceDefinition, error){
	"KubeVirt":               components.NewKubeVirtCrd,
	"Plugin":                 components.NewPluginCrd,
	"VirtualMachine":         components.NewVirtualMachineCrd,
	"VirtualMachineInstance": components.NewVirtualMachineInstanceCrd,
}

// faultsOf is what an API server has against an object of KubeVirt's, by the definitions that
// virt-operator installs there: fields that it would drop, and values that it would refuse.
func faultsOf(t *testing.T, document string) (kind string, faults []string) {
	t.Helper()
	var object map[string]any
	if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
		return "", []string{err.Error()}
	}
	kind, _ = object["kind"].(string)
	define := definitions[kind]
	if define == nil {
		return "", nil // Kubernetes' own: see kubelet/
	}
	definition, err := define()
	if err != nil {
		t.Fatal(err)
	}
	version, _ := strings.CutPrefix(object["apiVersion"].(string), definition.Spec.Group+"/")
	for _, served := range definition.Spec.Versions {
		if served.Name != version {
			continue
		}
		var internal apiextensions.JSONSchemaProps
		if err := extensions.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(served.Schema.OpenAPIV3Schema, &internal, nil); err != nil {
			t.Fatal(err)
		}
		validator, _, err := validation.NewSchemaValidator(&internal)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range validation.ValidateCustomResource(nil, object, validator) {
			faults = append(faults, fault.Error())
		}
		structural, err := schema.NewStructural(&internal)
		if err != nil {
			t.Fatal(err)
		}
		tracked := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
		for _, path := range pruning.PruneWithOptions(object, structural, true, tracked) {
			faults = append(faults, "unknown field "+path)
		}
		return kind, faults
	}
	return kind, []string{"apiVersion: " + version + " is not served"}
}

func readManifest(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(harness.Root(), "sidecar-image/manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAnAPIServerWithKubeVirtTakesOurManifests(t *testing.T) {
	var kinds []string
	for _, name := range []string{"kubevirt.yaml", "plugin.yaml", "vm.yaml", "vmi.yaml"} {
		for document := range strings.SplitSeq(readManifest(t, name), "\n---\n") {
			kind, faults := faultsOf(t, document)
			for _, fault := range faults {
				t.Errorf("%s: %s", name, fault)
			}
			if kind != "" {
				kinds = append(kinds, kind)
			}
		}
	}
	slices.Sort(kinds)
	if !slices.Equal(kinds, []string{"KubeVirt", "Plugin", "VirtualMachine", "VirtualMachineInstance"}) {
		t.Errorf("looked at %v", kinds)
	}
}

func TestAnAPIServerWithKubeVirtSeesWhatIsWrongWithAManifest(t *testing.T) {
	for _, fault := range []struct{ name, from, to, says string }{
		{"vm.yaml", "deviceName:", "devicename:", "unknown field spec.template.spec.domain.devices.gpus[0].devicename"},
		{"vm.yaml", "cores: 4", "cores: four", "spec.template.spec.domain.cpu.cores"},
		{"kubevirt.yaml", "externalResourceProvider: true", "externalProvider: true", "unknown field spec.configuration.permittedHostDevices.pciHostDevices[0].externalProvider"},
		{"plugin.yaml", "sidecar:", "sideCar:", "unknown field spec.domainHooks[0].sideCar"},
		{"plugin.yaml", "plugin.kubevirt.io/v1alpha1", "plugin.kubevirt.io/v1", "v1 is not served"},
	} {
		document, _, _ := strings.Cut(readManifest(t, fault.name), "\n---\n")
		if !strings.Contains(document, fault.from) {
			t.Errorf("%s: %q is not in it", fault.name, fault.from)
		}
		_, faults := faultsOf(t, strings.Replace(document, fault.from, fault.to, 1))
		if !strings.Contains(strings.Join(faults, "\n"), fault.says) {
			t.Errorf("%s with %s: %q", fault.name, fault.to, faults)
		}
	}
}
