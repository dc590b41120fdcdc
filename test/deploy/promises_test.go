// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func bufferedReader(text []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(text)) }

// podSpec is the pod template of a workload, nil for other objects.
func podSpec(object runtime.Object) *corev1.PodSpec {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	}
	return nil
}

func containers(object runtime.Object) []corev1.Container {
	spec := podSpec(object)
	if spec == nil {
		return nil
	}
	return append(slices.Clone(spec.InitContainers), spec.Containers...)
}

// installed decodes a file of deploy/.
func installed(t *testing.T, file string) []runtime.Object {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", file))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

func find[T runtime.Object](t *testing.T, objects []runtime.Object, name string) T {
	t.Helper()
	for _, o := range objects {
		if o, ok := o.(T); ok && any(o).(interface{ GetName() string }).GetName() == name {
			return o
		}
	}
	var none T
	t.Fatalf("no %T %s", none, name)
	return none
}

// TestNodes: the privileged pods survive what kills others, and pin nothing.
func TestNodes(t *testing.T) {
	objects := installed(t, "podproc.yaml")
	for _, name := range []string{"podproc-node", "podproc-standby"} {
		ds := find[*appsv1.DaemonSet](t, objects, name)
		spec, c := ds.Spec.Template.Spec, ds.Spec.Template.Spec.Containers[0]
		for what, ok := range map[string]bool{
			"sees the readers' pids (hostPID)":             spec.HostPID,
			"is privileged, as root":                       *c.SecurityContext.Privileged && *c.SecurityContext.RunAsUser == 0,
			"has a read-only root":                         *c.SecurityContext.ReadOnlyRootFilesystem,
			"runs on Linux only":                           spec.NodeSelector["kubernetes.io/os"] == "linux",
			"tolerates everything":                         len(spec.Tolerations) == 1 && spec.Tolerations[0] == corev1.Toleration{Operator: corev1.TolerationOpExists},
			"is system-node-critical":                      spec.PriorityClassName == "system-node-critical",
			"has requests and no limits":                   len(c.Resources.Limits) == 0 && len(c.Resources.Requests) == 2,
			"rolls":                                        ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType,
			"gets no token of the API server":              spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken,
			"needs no mount propagation":                   len(c.VolumeMounts) == 1 && c.VolumeMounts[0].MountPropagation == nil,
			"has one volume, /run/podproc/ctl":             len(spec.Volumes) == 1 && spec.Volumes[0].HostPath.Path == "/run/podproc/ctl" && c.VolumeMounts[0].MountPath == "/run/podproc/ctl",
			"makes it where it is not there":               *spec.Volumes[0].HostPath.Type == corev1.HostPathDirectoryOrCreate,
			"has startup, readiness and liveness probes":   c.StartupProbe != nil && c.ReadinessProbe != nil && c.LivenessProbe != nil,
			"is alive by its event loop, ready by its job": c.LivenessProbe.HTTPGet.Path == "/healthz" && c.ReadinessProbe.HTTPGet.Path == "/readyz" && c.StartupProbe.HTTPGet.Path == "/readyz",
			"is the standby by its flag":                   slices.Contains(c.Args, "--standby") == (name == "podproc-standby"),
		} {
			if !ok {
				t.Errorf("%s: want a pod that %s", name, what)
			}
		}
	}
	quota := find[*corev1.ResourceQuota](t, objects, "podproc-critical")
	if got := quota.Spec.ScopeSelector.MatchExpressions[0]; !slices.Contains(got.Values, "system-node-critical") || got.ScopeName != corev1.ResourceQuotaScopePriorityClass {
		t.Errorf("quota that admits critical pods: got %v", got)
	}
	namespace := find[*corev1.Namespace](t, objects, "podproc")
	if got := namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "privileged" {
		t.Errorf("the namespace enforces %q, want privileged", got)
	}
}

// TestWebhookPods: what answers the API server has no rights on its node.
func TestWebhookPods(t *testing.T) {
	for _, m := range Manifests {
		objects := installed(t, m.File)
		d := find[*appsv1.Deployment](t, objects, "podproc-webhook")
		spec, c := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]
		for what, ok := range map[string]bool{
			"two replicas":               *d.Spec.Replicas == 2,
			"non-root":                   *spec.SecurityContext.RunAsNonRoot && *spec.SecurityContext.RunAsUser != 0,
			"the runtime's seccomp":      spec.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
			"a read-only root":           *c.SecurityContext.ReadOnlyRootFilesystem,
			"no new privileges":          !*c.SecurityContext.AllowPrivilegeEscalation,
			"no capabilities":            len(c.SecurityContext.Capabilities.Drop) == 1 && c.SecurityContext.Capabilities.Drop[0] == "ALL",
			"nothing of the host":        !spec.HostNetwork && !spec.HostPID && !spec.HostIPC,
			"time to drain":              spec.TerminationGracePeriodSeconds == nil,
			"a spread that never blocks": len(spec.TopologySpreadConstraints) > 0,
		} {
			if !ok {
				t.Errorf("%s: want %s", m.File, what)
			}
		}
		for _, s := range spec.TopologySpreadConstraints {
			if s.WhenUnsatisfiable != corev1.ScheduleAnyway {
				t.Errorf("%s: spread over %s: got %s", m.File, s.TopologyKey, s.WhenUnsatisfiable)
			}
		}
		for _, v := range spec.Volumes {
			if v.HostPath != nil {
				t.Errorf("%s: volume %s is the host's", m.File, v.Name)
			}
		}
	}
}

// TestRights: RBAC is exactly this, and nothing else binds anything.
func TestRights(t *testing.T) {
	for file, want := range map[string][]string{
		"podproc.yaml": {
			"ClusterRole podproc-webhook: get,list,watch namespaces",
			"ClusterRole podproc-webhook: create,patch events",
			"ClusterRole podproc-webhook: get,list,watch,patch mutatingwebhookconfigurations/podproc",
			"Role podproc-webhook: get,list,watch,create,update,patch secrets/podproc-webhook-ca",
		},
		"podproc-cert-manager.yaml": {
			"ClusterRole podproc-webhook: get,list,watch namespaces",
			"ClusterRole podproc-webhook: create,patch events",
			"ClusterRole podproc-webhook: get,list,watch mutatingwebhookconfigurations/podproc",
		},
	} {
		var got []string
		for _, object := range installed(t, file) {
			switch o := object.(type) {
			case *rbacv1.ClusterRole:
				got = append(got, rights("ClusterRole "+o.Name, o.Rules)...)
			case *rbacv1.Role:
				got = append(got, rights("Role "+o.Name, o.Rules)...)
			case *rbacv1.ClusterRoleBinding:
				if len(o.Subjects) != 1 || o.Subjects[0].Name != "podproc-webhook" {
					t.Errorf("%s: bound to %v", file, o.Subjects)
				}
			case *corev1.Secret:
				if len(o.Data)+len(o.StringData) > 0 {
					t.Errorf("%s: Secret %s is not empty: applying it again would reset it", file, o.Name)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func rights(of string, rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		what := strings.Join(r.Resources, ",")
		if len(r.ResourceNames) > 0 {
			what += "/" + strings.Join(r.ResourceNames, ",")
		}
		out = append(out, fmt.Sprintf("%s: %s %s", of, strings.Join(r.Verbs, ","), what))
	}
	return out
}

// TestWebhookConfiguration: it never blocks a pod, never asks about the pods
// that must start first, and never carries a caBundle to reset.
func TestWebhookConfiguration(t *testing.T) {
	for _, m := range Manifests {
		c := find[*admissionv1.MutatingWebhookConfiguration](t, installed(t, m.File), "podproc")
		var names []string
		for _, w := range c.Webhooks {
			names = append(names, w.Name)
			for what, ok := range map[string]bool{
				"failurePolicy Ignore":          *w.FailurePolicy == admissionv1.Ignore,
				"a time-out of 3 s":             *w.TimeoutSeconds == 3,
				"reinvocation":                  *w.ReinvocationPolicy == admissionv1.IfNeededReinvocationPolicy,
				"side effects but on dry runs":  *w.SideEffects == admissionv1.SideEffectClassNoneOnDryRun,
				"no caBundle":                   w.ClientConfig.CABundle == nil,
				"matchConditions":               len(w.MatchConditions) > 0,
				"kube-system and podproc apart": excludes(&w, "kube-system", "podproc"),
			} {
				if !ok {
					t.Errorf("%s: webhook %s: want %s", m.File, w.Name, what)
				}
			}
			for _, condition := range w.MatchConditions {
				unguarded(t, condition)
			}
		}
		want := []string{"namespaces.podproc.io", "pods.podproc.io", "ephemeral.podproc.io", "workloads.podproc.io"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: webhooks (-want +got):\n%s", m.File, diff)
		}
		if got := c.Annotations["cert-manager.io/inject-ca-from"] != ""; got != (m.File == "podproc-cert-manager.yaml") {
			t.Errorf("%s: cainjector owns caBundle: got %v", m.File, got)
		}
	}
}

func excludes(w *admissionv1.MutatingWebhook, names ...string) bool {
	for _, e := range w.NamespaceSelector.MatchExpressions {
		if e.Key == "kubernetes.io/metadata.name" && e.Operator == "NotIn" {
			return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(e.Values, n) })
		}
	}
	return false
}

// optional is what CEL fails on when the object does not have it.
var optional = regexp.MustCompile(`(object|oldObject)\.metadata\.(annotations|labels|ownerReferences)`)

// unguarded complains about a field that is read and not asked for with has()
// in the same condition.
func unguarded(t *testing.T, c admissionv1.MatchCondition) {
	t.Helper()
	for _, field := range optional.FindAllString(c.Expression, -1) {
		if !strings.Contains(c.Expression, "has("+field+")") {
			t.Errorf("condition %s reads %s without has()", c.Name, field)
		}
	}
	if strings.Contains(c.Expression, "oldObject.") && !strings.Contains(c.Expression, "oldObject != null && ") {
		t.Errorf("condition %s reads oldObject, which a CREATE does not have", c.Name)
	}
}

// TestOneVersion: chart, image and manifests say the same.
func TestOneVersion(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	chart, err := os.ReadFile(filepath.Join(root, "deploy", "chart", "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	versions := regexp.MustCompile(`(?m)^(?:version|appVersion): (\S+)$`).FindAllStringSubmatch(string(chart), -1)
	if len(versions) != 2 || versions[0][1] != versions[1][1] {
		t.Fatalf("Chart.yaml: got versions %q, want version and appVersion the same", versions)
	}
	for _, file := range []string{"podproc.yaml", "podproc-cert-manager.yaml", "release.yaml"} {
		for _, object := range installed(t, file) {
			for _, c := range containers(object) {
				if _, tag, _ := strings.Cut(c.Image, ":"); tag != versions[0][1] {
					t.Errorf("%s: image %s, want %s", file, c.Image, versions[0][1])
				}
			}
		}
	}
}

// TestRelease: what releases has the place, the rights and the image of what
// it cleans up after.
func TestRelease(t *testing.T) {
	node := find[*appsv1.DaemonSet](t, installed(t, "podproc.yaml"), "podproc-node").Spec.Template.Spec
	release := find[*appsv1.DaemonSet](t, installed(t, "release.yaml"), "podproc-release").Spec.Template.Spec
	type place struct {
		HostPID      bool
		NodeSelector map[string]string
		Tolerations  []corev1.Toleration
		Volumes      []corev1.Volume
		Image        string
		Security     *corev1.SecurityContext
		Mounts       []corev1.VolumeMount
		Where        []string // the flags that say where things are
	}
	of := func(s corev1.PodSpec, c corev1.Container) place {
		p := place{s.HostPID, s.NodeSelector, s.Tolerations, s.Volumes, c.Image, c.SecurityContext, c.VolumeMounts, nil}
		for _, arg := range c.Args {
			if name, _, _ := strings.Cut(arg, "="); slices.Contains([]string{"--mount", "--mount-namespace", "--ctl", "--proc"}, name) {
				p.Where = append(p.Where, arg)
			}
		}
		slices.Sort(p.Where)
		return p
	}
	for _, c := range append(slices.Clone(release.InitContainers), release.Containers...) {
		if diff := cmp.Diff(of(node, node.Containers[0]), of(release, c)); diff != "" {
			t.Errorf("container %s (-podproc-node +podproc-release):\n%s", c.Name, diff)
		}
		if c.Command[1] != "release" {
			t.Errorf("container %s runs %q", c.Name, c.Command)
		}
	}
}
