// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/podproc/podproc/webhook/inject"
)

// TestEventsAreBounded: an owner gets a few Events, however many pods it makes.
func TestEventsAreBounded(t *testing.T) {
	client := fake.NewClientset()
	r := NewRecorder(client.CoreV1())
	defer r.Close()
	const pods = 500
	for i := range pods {
		r.Skipped("ns", &inject.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "1"}, fmt.Sprintf("reason %d", i))
	}
	// Events are written in order: once another owner's is there, all of the first's were.
	r.Skipped("ns", &inject.Owner{APIVersion: "batch/v1", Kind: "Job", Name: "last", UID: "2"}, "reason")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		writes, last := 0, false
		for _, action := range client.Actions() {
			writes++
			if create, ok := action.(clienttesting.CreateAction); ok {
				event := create.GetObject().(*corev1.Event)
				last = last || event.InvolvedObject.Name == "last"
				if event.Reason != "PodprocNotInjected" || event.Type != corev1.EventTypeWarning || event.Namespace != "ns" {
					t.Fatalf("event is %+v", event)
				}
			}
		}
		if last {
			if writes > burst+1 {
				t.Errorf("%d writes for %d pods, want %d at most", writes, pods, burst+1)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the last Event was not written within a minute")
		}
	}
}
