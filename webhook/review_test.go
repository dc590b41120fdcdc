// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/podproc/podproc/webhook/inject"
)

// told are the Events that would have been sent.
type told []string

func (e *told) Skipped(namespace string, owner *inject.Owner, message string) {
	*e = append(*e, fmt.Sprintf("%s/%s/%s: %s", namespace, owner.Kind, owner.Name, message))
}

// bench is a Server with what it leaves behind.
type bench struct {
	*Server
	http   http.Handler
	events told
	log    bytes.Buffer
	reg    *prometheus.Registry
}

func newBench(t *testing.T) *bench {
	t.Helper()
	injector, err := inject.New(inject.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{reg: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Server = &Server{
		Handler: &Handler{
			Injector: injector,
			Namespace: func(_ context.Context, name string) *inject.Namespace {
				return &inject.Namespace{Name: name, Labels: map[string]string{inject.InjectKey: "true"}}
			},
			Events:  &b.events,
			Metrics: NewMetrics(b.reg, func() time.Time { return time.Unix(1234567890, 0) }),
			Log:     log,
		},
		Log: log,
	}
	if b.http, err = b.Server.http(); err != nil {
		t.Fatal(err)
	}
	return b
}

// post posts a body and returns the review in the answer.
func (b *bench) post(t *testing.T, contentType, body string) *admissionv1.AdmissionReview {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/pods?timeout=3s", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil {
		t.Fatalf("the answer is no review: %v: %s", err, w.Body)
	}
	if review.Response == nil {
		t.Fatalf("the answer has no response: %s", w.Body)
	}
	return &review
}

func review(version, request string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/%s","kind":"AdmissionReview","request":%s}`, version, request)
}

// request is about an object of core/v1 or, with a group, of that group.
func request(group, kind, operation, object, more string) string {
	return fmt.Sprintf(`{"uid":"u1","kind":{"group":%q,"version":"v1","kind":%q},"resource":{"group":%q,"version":"v1","resource":"r"},
		"namespace":"ns","name":"n","operation":%q,"object":%s%s}`, group, kind, group, operation, object, more)
}

const (
	pod     = `{"metadata":{"name":"n"},"spec":{"containers":[{"name":"app","env":[{"name":"TOKEN","value":"s3cret"}]}]}}`
	hostPID = `{"metadata":{"name":"n"},"spec":{"hostPID":true,"containers":[{"name":"app"}]}}`
	owned   = `{"metadata":{"name":"n","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"1","controller":true}]},"spec":{"hostPID":true,"containers":[{"name":"app"}]}}`
)

// TestReviews: every review is answered, every one that can be read is allowed.
func TestReviews(t *testing.T) {
	for _, test := range []struct {
		name, contentType, body string

		refused bool // cannot be read: the API server goes by failurePolicy
		patched bool
		warned  string // a warning that contains this
		event   string
		metric  string // labels of the request counter that goes up
	}{
		{name: "a pod", body: review("v1", request("", "Pod", "CREATE", pod, "")), patched: true,
			metric: `kind="Pod",outcome="injected",reason=""`},
		{name: "v1beta1", body: review("v1beta1", request("", "Pod", "CREATE", pod, "")), patched: true,
			metric: `kind="Pod",outcome="injected",reason=""`},
		{name: "a bare pod that is skipped", body: review("v1", request("", "Pod", "CREATE", hostPID, "")), patched: true, warned: "hostPID",
			metric: `kind="Pod",outcome="skipped",reason="host-pid"`},
		{name: "a controller's pod that is skipped", body: review("v1", request("", "Pod", "CREATE", owned, "")), patched: true, event: "ns/ReplicaSet/rs: ",
			metric: `kind="Pod",outcome="skipped",reason="host-pid"`},
		{name: "the same as a dry run", body: review("v1", request("", "Pod", "CREATE", owned, `,"dryRun":true`)), patched: true,
			metric: `kind="Pod",outcome="skipped",reason="host-pid"`},
		{name: "a pod's update", body: review("v1", request("", "Pod", "UPDATE", pod, `,"oldObject":`+pod)),
			metric: `kind="Pod",outcome="ignored",reason="wrong-operation"`},
		{name: "a pod's end", body: review("v1", request("", "Pod", "DELETE", "null", `,"oldObject":`+pod)),
			metric: `kind="Pod",outcome="ignored",reason="wrong-operation"`},
		{name: "connect", body: review("v1", request("", "Pod", "CONNECT", `{"kind":"PodExecOptions"}`, "")),
			metric: `kind="Pod",outcome="ignored",reason="wrong-operation"`},
		{name: "another kind", body: review("v1", request("", "ConfigMap", "CREATE", `{}`, "")),
			metric: `kind="other",outcome="ignored",reason="unsupported-kind"`},
		{name: "another subresource", body: review("v1", request("", "Pod", "UPDATE", pod, `,"subResource":"status"`)),
			metric: `kind="other",outcome="ignored",reason="unsupported-kind"`},
		{name: "a workload", body: review("v1", request("apps", "Deployment", "CREATE",
			`{"metadata":{"annotations":{"podproc.io/inject":"true"}},"spec":{"template":{"spec":{"containers":[{"name":"app"}]}}}}`, "")), patched: true,
			metric: `kind="Deployment",outcome="carried",reason=""`},
		{name: "a pod that is none", body: review("v1", request("", "Pod", "CREATE", `{"spec":{"containers":17}}`, "")),
			metric: `kind="Pod",outcome="failed",reason="malformed"`},
		{name: "no object", body: review("v1", `{"uid":"u1","kind":{"version":"v1","kind":"Pod"},"operation":"CREATE"}`),
			metric: `kind="Pod",outcome="failed",reason="malformed"`},
		{name: "no request", refused: true, body: review("v1", "null"), metric: `kind="other",outcome="failed",reason="bad-review"`},

		{name: "nothing", refused: true, body: "", metric: `kind="other",outcome="failed",reason="bad-review"`},
		{name: "malformed JSON", refused: true, body: `{"apiVersion":`, metric: `kind="other",outcome="failed",reason="bad-review"`},
		{name: "another object", refused: true, body: pod, metric: `kind="other",outcome="failed",reason="bad-review"`},
		{name: "a version to come", refused: true, body: review("v9", "{}"), metric: `kind="other",outcome="failed",reason="bad-review"`},
		{name: "another content type", refused: true, contentType: "text/plain", body: review("v1", request("", "Pod", "CREATE", pod, "")),
			metric: `kind="other",outcome="failed",reason="bad-review"`},
		{name: "larger than any object", refused: true, body: review("v1", strings.Repeat(" ", 8<<20)+"null"),
			metric: `kind="other",outcome="failed",reason="bad-review"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			if test.contentType == "" {
				test.contentType = "application/json"
			}
			got := b.post(t, test.contentType, test.body).Response
			if got.Allowed == test.refused {
				t.Errorf("allowed: %t (%+v)", got.Allowed, got.Result)
			}
			if !test.refused && got.UID != "u1" {
				t.Errorf("uid is %q, want that of the request", got.UID)
			}
			if (got.Patch != nil) != test.patched || test.patched && (got.PatchType == nil || *got.PatchType != admissionv1.PatchTypeJSONPatch) {
				t.Errorf("patch %s of type %v, want one: %t", got.Patch, got.PatchType, test.patched)
			}
			if warnings := strings.Join(got.Warnings, "\n"); (warnings != "") != (test.warned != "") || !strings.Contains(warnings, test.warned) {
				t.Errorf("warnings are %q, want %q", warnings, test.warned)
			}
			if events := strings.Join(b.events, "\n"); (events != "") != (test.event != "") || !strings.Contains(events, test.event) {
				t.Errorf("events are %q, want %q", events, test.event)
			}
			want := fmt.Sprintf("# HELP podproc_webhook_requests_total Admission requests by kind of object, outcome and reason. Requests that a matchCondition or selector kept from the webhook are not seen here.\n# TYPE podproc_webhook_requests_total counter\npodproc_webhook_requests_total{%s} 1\n", test.metric)
			if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "podproc_webhook_requests_total"); err != nil {
				t.Error(err)
			}
			if strings.Contains(b.log.String(), "s3cret") || strings.Contains(b.log.String(), "TOKEN") {
				t.Errorf("the log tells what is in the pod:\n%s", b.log.String())
			}
		})
	}
}

// What goes wrong in podproc itself admits the object as it is.
func TestOwnTrouble(t *testing.T) {
	t.Run("panic", func(t *testing.T) {
		b := newBench(t)
		b.Handler.Namespace = func(context.Context, string) *inject.Namespace { panic("trouble") }
		got := b.post(t, "application/json", review("v1", request("", "Pod", "CREATE", pod, ""))).Response
		if !got.Allowed || got.UID != "u1" || got.Patch != nil || len(got.Warnings) != 1 {
			t.Errorf("answer is %+v, want allowed with a warning and no patch", got)
		}
		if !strings.Contains(b.log.String(), "trouble") {
			t.Error("the panic is not logged")
		}
	})
	t.Run("unknown namespace", func(t *testing.T) {
		client := fake.NewClientset()
		client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("the API server is away")
		})
		b := newBench(t)
		b.Handler.Namespace = NewNamespaces(client, b.Log).Get
		asking := strings.Replace(pod, `"name":"n"`, `"name":"n","annotations":{"podproc.io/inject":"true"}`, 1)
		got := b.post(t, "application/json", review("v1", request("", "Pod", "CREATE", asking, ""))).Response
		if !got.Allowed || len(got.Warnings) == 0 || strings.Contains(string(got.Patch), "/spec/") {
			t.Errorf("answer is %+v with patch %s, want allowed, not injected, with a warning", got, got.Patch)
		}
	})
}

// A namespace that the watch has not brought yet is asked for.
func TestNamespaceIsAskedFor(t *testing.T) {
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new", Labels: map[string]string{"a": "b"}}})
	n := NewNamespaces(client, slog.New(slog.DiscardHandler))
	if n.Ready() {
		t.Error("ready before it has read anything")
	}
	if got := n.Get(t.Context(), "new"); got == nil || got.Labels["a"] != "b" {
		t.Errorf("got %+v", got)
	}
	if got := n.Get(t.Context(), "none"); got != nil {
		t.Errorf("got %+v for a namespace that does not exist", got)
	}
	go n.Start(t.Context())
	for !n.Ready() {
		time.Sleep(time.Millisecond)
	}
	client.ClearActions()
	if got := n.Get(t.Context(), "new"); got == nil || got.Labels["a"] != "b" || len(client.Actions()) != 0 {
		t.Errorf("got %+v with %d requests, want none", got, len(client.Actions()))
	}
}
