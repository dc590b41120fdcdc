// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// testDryRun: a dry run shows what would be and leaves no trace.
func testDryRun(t *testing.T, e *env) {
	ns := e.namespace(t, "dry-run", map[string]string{injectKey: "true"})
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: dry}\nspec: {" + podSpec("") + "}\n"
	out, _ := e.kubectl(t, pod, "-n", ns, "apply", "--dry-run=server", "-o", "yaml", "-f", "-")
	var got corev1.Pod
	if err := yaml.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if err := injected(&got); err != nil {
		t.Error(err)
	}
	// A skipped pod of a ReplicaSet is told by an Event, but not when it is dry.
	skipped := newPod("skipped", nil)
	skipped.Spec.HostPID = true
	controller := true
	skipped.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "1", Controller: &controller}}
	create := func(options metav1.CreateOptions) {
		t.Helper()
		if _, err := e.client.CoreV1().Pods(ns).Create(t.Context(), skipped, options); err != nil {
			t.Fatal(err)
		}
	}
	create(metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	skipped.Name = "wet"
	skipped.OwnerReferences[0].Name = "wet"
	create(metav1.CreateOptions{})
	// Both requests go over the API server's one connection to one replica, which
	// writes Events in order: one of the dry run would be there by now.
	e.skipEvent(t, ns, "hostPID")
	events, err := e.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=PodprocNotInjected"})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events.Items {
		if event.InvolvedObject.Name == "rs" {
			t.Errorf("dry run left an Event: %s", event.Message)
		}
	}
}

// testSecondWebhook: a webhook that comes after podproc and adds a container gets
// it injected too, since the API server calls podproc again.
func testSecondWebhook(t *testing.T, e *env) {
	ns := e.namespace(t, "second", map[string]string{injectKey: "true", "second": "yes"})
	e.webhook(t, "second", func(w http.ResponseWriter, r *http.Request) {
		review := readReview(t, r)
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		var pod corev1.Pod
		if err := json.Unmarshal(review.Request.Object.Raw, &pod); err != nil {
			t.Error(err)
		}
		if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "late" }) {
			kind := admissionv1.PatchTypeJSONPatch
			review.Response.PatchType = &kind
			review.Response.Patch = []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"late","image":"late"}}]`)
		}
		writeReview(t, w, r, review)
	})
	eventually(t, "second webhook is called and its container injected", func(ctx ctx) error {
		pod, err := e.client.CoreV1().Pods(ns).Create(ctx, newPod("twice", nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if len(pod.Spec.Containers) != 2 {
			return fmt.Errorf("containers: %d", len(pod.Spec.Containers))
		}
		return injected(pod)
	})
}

// testDebug: an ephemeral container sees the files where its pod has them.
func testDebug(t *testing.T, e *env) {
	ns := e.namespace(t, "debug", nil)
	for name, annotations := range map[string]map[string]string{"with": {injectKey: "true"}, "without": nil} {
		if _, err := e.client.CoreV1().Pods(ns).Create(t.Context(), newPod(name, annotations), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one leaves the first as it is
			e.kubectl(t, "", "-n", ns, "debug", name, "--image=busybox", "--target=app", "--attach=false")
		}
		pod, err := e.client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(pod.Spec.EphemeralContainers) != 2 {
			t.Errorf("pod %s has %d ephemeral containers", name, len(pod.Spec.EphemeralContainers))
		}
		var want []string
		if annotations != nil {
			want = defaultPaths
		}
		for _, c := range pod.Spec.EphemeralContainers {
			if got := mountsOf(pod, c.VolumeMounts); !slices.Equal(got, want) {
				t.Errorf("ephemeral container of pod %s has %v, want %v", name, got, want)
			}
		}
	}
}

// testAppliedAgain: applying podproc's manifests again (as an upgrade does) loses neither
// caBundle nor the CA.
func testAppliedAgain(t *testing.T, e *env) {
	secret := func() *corev1.Secret {
		s, err := e.client.CoreV1().Secrets(namespace).Get(t.Context(), caSecret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := e.configuration(t, configuration)
	had := secret()
	e.kubectl(t, e.manifest, "apply", "-f", "-")
	e.kubectl(t, e.manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	after := e.configuration(t, configuration)
	for i, w := range after.Webhooks {
		if *w.TimeoutSeconds != 3 {
			t.Errorf("webhook %s: timeout is %d s, want 3 as shipped", w.Name, *w.TimeoutSeconds)
		}
		// The bundle may have changed by itself meanwhile; it may not be gone.
		if len(w.ClientConfig.CABundle) == 0 || len(before.Webhooks[i].ClientConfig.CABundle) == 0 {
			t.Errorf("webhook %s has lost its caBundle", w.Name)
		}
	}
	if has := secret(); len(has.Data["tls.key"]) == 0 || has.UID != had.UID {
		t.Error("the CA is gone from the Secret")
	}
	e.waitReady(t)
}

// testMatchConditions: an error in a matchCondition skips the webhook without a
// word, but the API server counts it.
func testMatchConditions(t *testing.T, e *env) {
	metrics, err := e.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(metrics, "apiserver_admission_match_condition_evaluation_seconds") {
		t.Error("the API server has no metrics of match conditions: were they renamed?")
	}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "apiserver_admission_match_condition_evaluation_errors_total{") && !strings.HasSuffix(line, " 0\n") {
			t.Errorf("match conditions have failed: %s", line)
		}
	}
}
