// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// What the engines' own schemas (Kyverno 1.17, Gatekeeper's library, OpenShift 4)
// say of the fields that deploy/policies has. Another field is an error.
type (
	policyException struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Exceptions []struct {
				PolicyName string   `json:"policyName"` // required
				RuleNames  []string `json:"ruleNames"`  // required
			} `json:"exceptions"`
			Match struct {
				Any []struct {
					Resources struct {
						Kinds       []string          `json:"kinds"`
						Namespaces  []string          `json:"namespaces"`
						Names       []string          `json:"names"`
						Annotations map[string]string `json:"annotations"`
					} `json:"resources"`
				} `json:"any"`
			} `json:"match"`
			Conditions struct {
				All []struct {
					Key      string   `json:"key"`
					Operator string   `json:"operator"` // AnyIn, AllIn, ...
					Value    []string `json:"value"`
				} `json:"all"`
			} `json:"conditions"`
		} `json:"spec"`
	}

	constraint struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			EnforcementAction string `json:"enforcementAction"`
			Match             struct {
				Kinds []struct {
					APIGroups []string `json:"apiGroups"`
					Kinds     []string `json:"kinds"`
				} `json:"kinds"`
				ExcludedNamespaces []string `json:"excludedNamespaces"`
			} `json:"match"`
			Parameters struct {
				AllowedHostPaths []struct {
					PathPrefix string `json:"pathPrefix"`
					ReadOnly   bool   `json:"readOnly"`
				} `json:"allowedHostPaths"`
			} `json:"parameters"`
		} `json:"spec"`
	}

	strategy struct {
		Type string `json:"type"`
	}
	// Those that are pointers have to be there.
	securityContextConstraints struct {
		metav1.TypeMeta          `json:",inline"`
		Metadata                 metav1.ObjectMeta `json:"metadata"`
		AllowPrivilegedContainer *bool             `json:"allowPrivilegedContainer"`
		AllowPrivilegeEscalation *bool             `json:"allowPrivilegeEscalation"`
		AllowHostPID             *bool             `json:"allowHostPID"`
		AllowHostNetwork         *bool             `json:"allowHostNetwork"`
		AllowHostPorts           *bool             `json:"allowHostPorts"`
		AllowHostIPC             *bool             `json:"allowHostIPC"`
		AllowHostDirVolumePlugin *bool             `json:"allowHostDirVolumePlugin"`
		ReadOnlyRootFilesystem   *bool             `json:"readOnlyRootFilesystem"`
		AllowedCapabilities      *[]string         `json:"allowedCapabilities"`
		DefaultAddCapabilities   *[]string         `json:"defaultAddCapabilities"`
		RequiredDropCapabilities *[]string         `json:"requiredDropCapabilities"`
		Priority                 *int32            `json:"priority"`
		Volumes                  *[]string         `json:"volumes"`
		RunAsUser                strategy          `json:"runAsUser"`
		SELinuxContext           strategy          `json:"seLinuxContext"`
		FSGroup                  strategy          `json:"fsGroup"`
		SupplementalGroups       strategy          `json:"supplementalGroups"`
		SeccompProfiles          []string          `json:"seccompProfiles"`
		Users                    []string          `json:"users"`
	}
)

// policies reads each object of a file of deploy/policies that is of one of
// the kinds as a T, strictly.
func policies[T any](t *testing.T, file string, kinds ...string) (list []T) {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "policies", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range regexp.MustCompile(`(?m)^---\n`).Split(string(text), -1) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !slices.Contains(kinds, kind.APIVersion+" "+kind.Kind) {
			continue
		}
		var o T
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			t.Errorf("%s: %s: %v", file, kind.Kind, err)
		}
		list = append(list, o)
	}
	for _, path := range regexp.MustCompile(`/(?:run|var|etc)/[^\s"]*`).FindAllString(string(text), -1) {
		if !strings.HasPrefix(path, "/run/podproc/") {
			t.Errorf("%s: host path %s", file, path)
		}
	}
	return list
}

// privileged is a DaemonSet whose pods a policy would refuse.
type privileged struct{ namespace, name, account string }

func privilegedPods(t *testing.T) (all []privileged) {
	t.Helper()
	for _, file := range []string{"podproc.yaml", "release.yaml"} {
		for _, o := range installed(t, file) {
			if ds, ok := o.(*appsv1.DaemonSet); ok {
				account := ds.Spec.Template.Spec.ServiceAccountName
				if account == "" {
					account = "default"
				}
				all = append(all, privileged{ds.Namespace, ds.Name, account})
			}
		}
	}
	if len(all) != 3 {
		t.Fatalf("privileged DaemonSets: %v, want three", all)
	}
	return all
}

func TestKyverno(t *testing.T) {
	exceptions := policies[policyException](t, "kyverno.yaml", "kyverno.io/v2 PolicyException")
	if len(exceptions) != 2 {
		t.Fatalf("%d exceptions, want one for podproc's pods and one for the injected", len(exceptions))
	}
	for _, e := range exceptions {
		for _, x := range e.Spec.Exceptions {
			if x.PolicyName == "" || len(x.RuleNames) == 0 {
				t.Errorf("%s: exception %+v of no rule", e.Metadata.Name, x)
			}
		}
		if len(e.Spec.Match.Any) != 1 || e.Metadata.Name == "" || e.Metadata.Namespace == "" {
			t.Errorf("%+v: want a name, a namespace and one match", e)
		}
	}
	own := exceptions[0].Spec.Match.Any[0].Resources
	for _, p := range privilegedPods(t) {
		if matched, _ := filepath.Match(own.Names[0], p.name); !slices.Contains(own.Namespaces, p.namespace) || !matched {
			t.Errorf("no exception for %s in %s", p.name, p.namespace)
		}
	}
	injected := exceptions[1].Spec
	if diff := cmp.Diff(map[string]string{"podproc.io/status": "*"}, injected.Match.Any[0].Resources.Annotations); diff != "" {
		t.Errorf("injected pods are known by (-want +got):\n%s", diff)
	}
	if all := injected.Conditions.All; len(all) != 1 || all[0].Operator != "AllIn" || !slices.Equal(all[0].Value, []string{"/run/podproc/fs/*"}) {
		t.Errorf("conditions for injected pods: %+v", all)
	}
}

func TestGatekeeper(t *testing.T) {
	const group = "constraints.gatekeeper.sh/v1beta1 "
	kinds := []string{group + "K8sPSPHostFilesystem", group + "K8sPSPPrivilegedContainer", group + "K8sPSPHostNamespace"}
	constraints := policies[constraint](t, "gatekeeper.yaml", kinds...)
	if len(constraints) != len(kinds) {
		t.Fatalf("%d constraints, want %q", len(constraints), kinds)
	}
	for _, c := range constraints {
		if c.Spec.EnforcementAction != "dryrun" {
			t.Errorf("%s would deny others' pods: enforcementAction %q", c.Kind, c.Spec.EnforcementAction)
		}
		for _, p := range privilegedPods(t) {
			if !slices.Contains(c.Spec.Match.ExcludedNamespaces, p.namespace) {
				t.Errorf("%s holds for %s in %s", c.Kind, p.name, p.namespace)
			}
		}
		if c.Kind != "K8sPSPHostFilesystem" {
			continue
		}
		if paths := c.Spec.Parameters.AllowedHostPaths; len(paths) != 1 || paths[0].PathPrefix != "/run/podproc/fs" || !paths[0].ReadOnly {
			t.Errorf("allowed host paths: %+v", paths)
		}
	}
}

func TestOpenShift(t *testing.T) {
	list := policies[securityContextConstraints](t, "openshift.yaml", "security.openshift.io/v1 SecurityContextConstraints")
	if len(list) != 2 {
		t.Fatalf("%d SecurityContextConstraints, want one for podproc's pods and one for the injected", len(list))
	}
	for _, c := range list {
		for field, missing := range map[string]bool{
			"allowPrivilegedContainer": c.AllowPrivilegedContainer == nil,
			"allowHostPID":             c.AllowHostPID == nil,
			"allowHostNetwork":         c.AllowHostNetwork == nil,
			"allowHostPorts":           c.AllowHostPorts == nil,
			"allowHostIPC":             c.AllowHostIPC == nil,
			"allowHostDirVolumePlugin": c.AllowHostDirVolumePlugin == nil,
			"readOnlyRootFilesystem":   c.ReadOnlyRootFilesystem == nil,
			"allowedCapabilities":      c.AllowedCapabilities == nil,
			"defaultAddCapabilities":   c.DefaultAddCapabilities == nil,
			"requiredDropCapabilities": c.RequiredDropCapabilities == nil,
			"priority":                 c.Priority == nil,
			"volumes":                  c.Volumes == nil,
		} {
			if missing {
				t.Errorf("%s: %s is required", c.Metadata.Name, field)
			}
		}
	}
	for _, p := range privilegedPods(t) {
		if !slices.Contains(list[0].Users, "system:serviceaccount:"+p.namespace+":"+p.account) {
			t.Errorf("%s is not for %s in %s", list[0].Metadata.Name, p.name, p.namespace)
		}
	}
	if c := list[1]; *c.AllowPrivilegedContainer || *c.AllowHostPID || len(c.Users) > 0 {
		t.Errorf("%s allows injected pods too much: %+v", c.Metadata.Name, c)
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "policies", "openshift.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if rest := decode(t, text, "SecurityContextConstraints"); len(rest) != 2 {
		t.Errorf("%d objects of Kubernetes' own, want a RoleBinding and a ClusterRole", len(rest))
	}
}
