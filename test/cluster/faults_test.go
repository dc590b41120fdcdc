// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testFaults: a webhook with podproc's failurePolicy and timeout that is slow or
// talks nonsense keeps no pod from being created.
func testFaults(t *testing.T, e *env) {
	for _, fault := range []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request)
	}{
		{"slow", func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // only then does the server see the client go
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute): // far longer than a busy machine makes 3 s last
			}
		}},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x00<html>") }},
		{"error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }},
		{"bad-patch", func(w http.ResponseWriter, r *http.Request) {
			review := readReview(t, r)
			fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true,"patchType":"JSONPatch","patch":"e30="}}`, review.Request.UID)
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			ns := e.namespace(t, "fault-"+fault.name, map[string]string{injectKey: "true", fault.name: "yes"})
			var calls atomic.Int32
			e.webhook(t, fault.name, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				fault.handler(w, r)
			})
			eventually(t, "the webhook is called", func(ctx ctx) error {
				calls.Store(0)
				start := time.Now()
				pod, err := e.client.CoreV1().Pods(ns).Create(ctx, newPod("pod", nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				took := time.Since(start)
				switch {
				case err != nil:
					t.Fatalf("pod was not created: %v", err)
				case calls.Load() == 0:
					return fmt.Errorf("it was not")
				case calls.Load() > 2:
					t.Errorf("%d calls for one pod, want 2 at most", calls.Load())
				case took > 2*3*time.Second+30*time.Second: // 30 s for the machine: the handler takes longer
					t.Errorf("the pod took %s", took)
				}
				t.Logf("%s: pod created in %s with %d calls", fault.name, took.Round(time.Millisecond), calls.Load())
				return injected(pod)
			})
		})
	}
}

// testDown: with podproc away everything works as without it, and what was
// annotated meanwhile is caught up with at the next change of the template.
func testDown(t *testing.T, e *env) {
	e.patchTimeouts(t, 30)
	ns := e.namespace(t, "down", nil)
	e.kubectl(t, deployment("before", "", ""), "-n", ns, "apply", "-f", "-")
	e.replicaSets(t, ns, "before", "create", 1)
	for _, r := range e.replicas {
		r.Kill()
	}
	e.kubectl(t, deployment("new", yes, ""), "-n", ns, "apply", "-f", "-")
	e.kubectl(t, "", "-n", ns, "annotate", "deployment/before", "podproc.io/inject=true")
	for _, name := range []string{"new", "before"} {
		if err := untouched(e.podOf(t, ns, name)); err != nil {
			t.Error(err)
		}
	}
	e.startReplica(t)
	e.replicas = e.replicas[len(e.replicas)-1:]
	e.waitReady(t)
	for _, name := range []string{"new", "before"} {
		e.kubectl(t, "", "-n", ns, "scale", "deployment/"+name, "--replicas=2")
		e.replicaSets(t, ns, name, "scale", 1)
		e.kubectl(t, "", "-n", ns, "rollout", "restart", "deployment/"+name)
		e.replicaSets(t, ns, name, "restart", 2)
		eventually(t, "restarted pods are injected", func(ctx ctx) error {
			pods, err := e.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
			if err != nil {
				return err
			}
			err = fmt.Errorf("no pods")
			for i := range pods.Items {
				if err = injected(&pods.Items[i]); err == nil {
					return nil
				}
			}
			return err
		})
		e.kubectl(t, "", "-n", ns, "rollout", "undo", "deployment/"+name)
		e.replicaSets(t, ns, name, "undo", 3)
	}
}
