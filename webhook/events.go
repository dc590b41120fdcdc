// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podproc/podproc/webhook/inject"
)

// Events tells the owners of pods.
type Events interface {
	// Skipped says that a pod of this controller was not injected, and why. It does not block.
	Skipped(namespace string, owner *inject.Owner, message string)
}

// A Recorder writes Events to the API server.
//
// A Deployment of a thousand replicas asks for a thousand equal Events at once.
// client-go's correlator counts equal ones up in one object and lets an owner have
// burst Events and then one in five minutes; what the API server cannot take is dropped.
type Recorder struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

var _ Events = (*Recorder)(nil)

// burst is how many Events an owner may get at once.
const burst = 10

// NewRecorder returns a Recorder that writes through client. Close it.
func NewRecorder(client typedcorev1.EventsGetter) *Recorder {
	broadcaster := record.NewBroadcasterWithCorrelatorOptions(record.CorrelatorOptions{BurstSize: burst})
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.Events("")})
	return &Recorder{
		broadcaster: broadcaster,
		recorder:    broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "podproc-webhook"}),
	}
}

// Skipped implements Events.
func (r *Recorder) Skipped(namespace string, owner *inject.Owner, message string) {
	r.recorder.Event(&corev1.ObjectReference{
		APIVersion: owner.APIVersion,
		Kind:       owner.Kind,
		Namespace:  namespace,
		Name:       owner.Name,
		UID:        types.UID(owner.UID),
	}, corev1.EventTypeWarning, "PodprocNotInjected", message)
}

// Close ends it; what is queued may be lost.
func (r *Recorder) Close() { r.broadcaster.Shutdown() }
