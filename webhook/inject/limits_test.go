// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// largePod makes a pod as an API server sends it, with n containers and
// annotations of size bytes.
func largePod(t testing.TB, n, size int) []byte {
	t.Helper()
	p := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{InjectKey: "true"}},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		},
	}
	if size > 0 {
		p.Annotations["filler"] = strings.Repeat("x", size)
	}
	for i := range n {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("container-%d", i), Image: "registry.example.com/team/app:1.2.3",
			Env:                      []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}},
			VolumeMounts:             []corev1.VolumeMount{{Name: "kube-api-access-x", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
			TerminationMessagePath:   "/dev/termination-log",
			TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullIfNotPresent,
		})
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func injector(t testing.TB, c Config) *Injector {
	t.Helper()
	in, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func create(object []byte) Request {
	return Request{Kind: Pod, Operation: Create, Object: object, Namespace: &Namespace{Name: "team"}}
}

func TestThousandContainers(t *testing.T) {
	object := largePod(t, 1000, 0)
	res, patched := checkInvariants(t, injector(t, Config{}), create(object))
	var p corev1.Pod
	unmarshal(t, patched, &p)
	if res.Outcome != Injected || len(p.Spec.Volumes) != 6 {
		t.Fatalf("outcome %s, %d volumes", res.Outcome, len(p.Spec.Volumes))
	}
	for _, c := range p.Spec.Containers {
		if len(c.VolumeMounts) != 6 {
			t.Fatalf("%s has %d mounts", c.Name, len(c.VolumeMounts))
		}
	}
	if res.Status.Count != 1000 || res.Status.Containers != nil {
		t.Errorf("status %+v should count so many containers, not name them", res.Status)
	}
}

// A pod of 1 MiB is injected; one that the mounts make too large for etcd is
// left alone, whichever of the two makes it so.
func TestLargePods(t *testing.T) {
	in := injector(t, Config{})
	object := largePod(t, 1, 0)
	object = []byte(strings.Replace(string(object), "registry.example.com", strings.Repeat("r", 1<<20), 1))
	if res, _ := checkInvariants(t, in, create(object)); res.Outcome != Injected {
		t.Errorf("1 MiB: outcome %s: %s", res.Outcome, res.Message)
	}
	object = largePod(t, 1700, 0)
	if res, _ := checkInvariants(t, in, create(object)); res.Reason != TooLarge || len(res.Patch) > 0 {
		t.Errorf("%d bytes: outcome %s, reason %s", len(object), res.Outcome, res.Reason)
	}
}

// The API server refuses a pod with more than 256 KiB of annotations.
func TestAnnotationsThatAreAlreadyLarge(t *testing.T) {
	for _, free := range []int{0, 200, 300, 10000} {
		object := largePod(t, 1, maxAnnotations-len("filler")-len(InjectKey)-len("true")-free)
		res, patched := checkInvariants(t, injector(t, Config{}), create(object))
		var p corev1.Pod
		unmarshal(t, patched, &p)
		if size := annotationSize(p.Annotations); size > maxAnnotations {
			t.Errorf("%d bytes free: %d bytes of annotations afterwards", free, size)
		}
		if len(p.Spec.Volumes) != 6 {
			t.Errorf("%d bytes free: not injected", free)
		}
		if _, ok := p.Annotations[StatusKey]; ok != (res.Status != nil) {
			t.Errorf("%d bytes free: status is %v, on the pod: %v", free, res.Status, ok)
		}
	}
}

func TestTemplateAnnotationsThatAreAlreadyLarge(t *testing.T) {
	object := fmt.Sprintf(`{"metadata":{"annotations":{"podproc.io/inject":"true"}},"spec":{"template":{"metadata":{"annotations":{"filler":%q}}}}}`,
		strings.Repeat("x", maxAnnotations-20))
	r := create([]byte(object))
	r.Kind = Deployment
	res, _ := checkInvariants(t, injector(t, Config{}), r)
	if res.Outcome != Skipped || res.Reason != TooLarge || len(res.Patch) > 0 || len(res.Warnings) != 1 {
		t.Errorf("outcome %s, reason %s, warnings %q", res.Outcome, res.Reason, res.Warnings)
	}
}

// What users write ends in warnings and in the status, at a bounded length.
func TestLongNonsense(t *testing.T) {
	annotations := map[string]string{InjectKey: "true", LegacyKey: strings.Repeat("\x00\n\u2028", 20000), FilesKey: strings.Repeat("\u00e9,", 20000) + "stat", ContainersKey: "app," + strings.Repeat("y,", 10000)}
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}, "spec": map[string]any{"containers": []any{map[string]any{"name": "app"}}}})
	if err != nil {
		t.Fatal(err)
	}
	res, _ := checkInvariants(t, injector(t, Config{}), create(b))
	total := 0
	for _, w := range res.Warnings {
		total += len(w)
	}
	if total > 4096 || len(res.Status.encode()) > 4096 {
		t.Errorf("%d bytes of warnings, %d of status", total, len(res.Status.encode()))
	}
}

// One decision costs microseconds.
func BenchmarkDecide(b *testing.B) {
	in := injector(b, Config{})
	for _, n := range []int{1, 3, 1000} {
		r := create(largePod(b, n, 0))
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(r.Object)))
			b.ReportAllocs()
			var patch []byte
			for b.Loop() {
				res := in.Decide(r)
				var err error
				if patch, err = res.PatchJSON(); err != nil || res.Outcome != Injected {
					b.Fatal(res.Outcome, err)
				}
			}
			b.ReportMetric(float64(len(patch)), "patch-bytes")
		})
	}
	b.Run("not-asked", func(b *testing.B) {
		r := create([]byte(strings.Replace(string(largePod(b, 3, 0)), InjectKey, "x", 1)))
		b.SetBytes(int64(len(r.Object)))
		b.ReportAllocs()
		for b.Loop() {
			in.Decide(r)
		}
	})
}
