// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// skips are pods that cannot be injected: the rest of the spec, of the container and the
// annotations, and the reason that the user is told. Two more are in testOtherReplicas.
var skips = []struct {
	reason, annotations, spec, container, words string
	noDeployment                                bool
}{
	{reason: "host-pid", spec: "hostPID: true", words: "hostPID"},
	{reason: "windows", spec: "os: {name: windows}", words: "Windows"},
	{reason: "user-namespace", spec: "hostUsers: false", words: "hostUsers"},
	{reason: "runtime-class", spec: "runtimeClassName: kata", words: "(kata)"},
	{reason: "virtual-node", spec: "nodeSelector: {type: virtual-kubelet}", words: "type=virtual-kubelet"},
	{reason: "mirror-pod", annotations: "kubernetes.io/config.mirror: abc", spec: "nodeName: node1", words: "static pod", noDeployment: true},
	{reason: "excluded", annotations: "podproc.io/exclude-containers: app", words: "exclude-containers"},
	{reason: "not-listed", annotations: "podproc.io/containers: other", words: "podproc.io/containers"},
	{reason: "no-file", annotations: "podproc.io/files: pressure/cpu", words: "none of the files"},
	{reason: "own-mount", spec: "volumes: [{name: own, emptyDir: {}}]", words: "already has a mount",
		container: "volumeMounts: [{name: own, mountPath: /proc}, {name: own, mountPath: /sys/devices}]"},
}

// testSkips sees each reason as a user does: a warning and a status for a bare pod,
// an Event on the ReplicaSet for a Deployment's.
func testSkips(t *testing.T, e *env) {
	e.kubectl(t, "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: kata}\nhandler: kata\n", "apply", "-f", "-")
	ns := e.namespace(t, "skips", map[string]string{injectKey: "true"})
	for _, skip := range skips {
		t.Run(skip.reason, func(t *testing.T) {
			spec := strings.Replace(podSpec(skip.spec), "image: app", "image: app, "+skip.container, 1)
			_, warnings := e.kubectl(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {%s}}
spec: {%s}
`, skip.reason, skip.annotations, spec), "-n", ns, "create", "-f", "-")
			if !strings.Contains(warnings, "podproc: ") || !strings.Contains(warnings, skip.words) {
				t.Errorf("kubectl says %q, want a warning with %q", warnings, skip.words)
			}
			pod, err := e.client.CoreV1().Pods(ns).Get(t.Context(), skip.reason, metav1.GetOptions{})
			if err == nil {
				err = untouched(pod)
			}
			if err != nil {
				t.Error(err)
			}
			status := pod.Annotations[statusKey]
			if !strings.Contains(status, `"skipped"`) || !strings.Contains(status, `"`+skip.reason+`"`) {
				t.Errorf("%s: %s, want skipped for reason %s", statusKey, status, skip.reason)
			}
			if skip.noDeployment {
				return
			}
			e.kubectl(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template: {metadata: {labels: {app: %[1]s}, annotations: {%[2]s}}, spec: {%[3]s}}
`, skip.reason, skip.annotations, spec), "-n", ns, "create", "-f", "-")
			if err := untouched(e.podOf(t, ns, skip.reason)); err != nil {
				t.Error(err)
			}
			e.skipEvent(t, ns, skip.words)
		})
	}
	t.Run("hostPID asked for on the pod", func(t *testing.T) {
		pod := newPod("asked", map[string]string{injectKey: "true"})
		pod.Spec.HostPID = true
		got, err := e.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			err = injected(got)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

func podSpec(spec string) string {
	return strings.Join([]string{"containers: [{name: app, image: app}]", spec}, ", ")
}

// testOddObjects: bad values are named in a warning and the pod starts without
// them; pods that lack every optional field, and very large ones, are no trouble.
func testOddObjects(t *testing.T, e *env) {
	ns := e.namespace(t, "odd", nil)
	for _, test := range []struct{ name, annotations, warning string }{
		{"value", `podproc.io/inject: "maybe"`, "maybe"},
		{"file", yes + `, podproc.io/files: "default,no-such-file"`, "no-such-file"},
		{"pressure", yes + `, podproc.io/files: "default,pressure/cpu"`, "pressure/cpu"},
		{"container", yes + `, podproc.io/exclude-containers: "no-such-container"`, "no-such-container"},
	} {
		_, warnings := e.kubectl(t, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, annotations: {%s}}\nspec: {%s}\n",
			test.name, test.annotations, podSpec("")), "-n", ns, "create", "-f", "-")
		if !strings.Contains(warnings, "podproc: ") || !strings.Contains(warnings, test.warning) {
			t.Errorf("%s: kubectl says %q, want a warning that names %q", test.name, warnings, test.warning)
		}
		if test.name == "value" {
			continue
		}
		pod, err := e.client.CoreV1().Pods(ns).Get(t.Context(), test.name, metav1.GetOptions{})
		if err == nil {
			err = injected(pod)
		}
		if err != nil {
			t.Error(err)
		}
	}
	// Without an annotation, label, owner, name: what the match conditions are guarded against.
	for _, labels := range []map[string]string{nil, {injectKey: "true"}} {
		bare := e.namespace(t, fmt.Sprintf("odd-bare-%d", len(labels)), labels)
		pod := newPod("", nil)
		pod.GenerateName = "bare-"
		if _, err := e.client.CoreV1().Pods(bare).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}
	testLargePods(t, e, ns)
}

// testLargePods: a thousand containers, half a megabyte when stored; and what would not
// fit into etcd with podproc's mounts is stored without them.
func testLargePods(t *testing.T, e *env, ns string) {
	for _, test := range []struct {
		name     string
		argument int
		check    func(*corev1.Pod) error
	}{
		{"large", 10, injected},
		{"too-large", 1000, untouched},
	} {
		pod := newPod(test.name, map[string]string{injectKey: "true"})
		for i := range 999 {
			c := pod.Spec.Containers[0].DeepCopy()
			c.Name, c.Args = fmt.Sprintf("c%d", i), []string{strings.Repeat("y", test.argument)}
			pod.Spec.Containers = append(pod.Spec.Containers, *c)
		}
		got, err := e.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			err = test.check(got)
		}
		if err != nil {
			t.Errorf("pod with 1000 containers and arguments of %d bytes: %v", test.argument, err)
			continue
		}
		t.Logf("%s: %d bytes", test.name, got.Size())
	}
}
