// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

// Kind is a kind of object that podproc has something to do with.
type Kind string

// The kinds that Decide knows.
const (
	Pod                 Kind = "Pod"
	EphemeralContainers Kind = "EphemeralContainers" // a Pod, by its subresource ephemeralcontainers
	Deployment          Kind = "Deployment"
	StatefulSet         Kind = "StatefulSet"
	DaemonSet           Kind = "DaemonSet"
	ReplicaSet          Kind = "ReplicaSet"
	Job                 Kind = "Job"
	CronJob             Kind = "CronJob"
)

// KindOf finds the Kind of an object by its API group, its kind and the
// subresource of the request ("" for none). It reports false for what podproc
// has nothing to do with. All versions of these groups have one shape, those
// included that old manifests have and no API server serves any more.
func KindOf(group, kind, subresource string) (Kind, bool) {
	k := Kind(kind)
	switch {
	case group == "" && k == Pod && subresource == "ephemeralcontainers":
		return EphemeralContainers, true
	case subresource != "":
		return "", false
	case group == "":
		return known(k, k == Pod)
	case group == "apps":
		return known(k, k == Deployment || k == StatefulSet || k == DaemonSet || k == ReplicaSet)
	case group == "extensions":
		return known(k, k == Deployment || k == DaemonSet || k == ReplicaSet)
	case group == "batch":
		return known(k, k == Job || k == CronJob)
	}
	return "", false
}

func known(k Kind, ok bool) (Kind, bool) {
	if !ok {
		return "", false
	}
	return k, true
}

// Workload reports whether objects of this kind have a pod template.
func (k Kind) Workload() bool {
	switch k {
	case Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob:
		return true
	}
	return false
}

// templatePath is the JSON Pointer of a workload's pod template.
func (k Kind) templatePath() string {
	if k == CronJob {
		return "/spec/jobTemplate/spec/template"
	}
	return "/spec/template"
}

// The operations of an admission request. Decide acts on the first two.
const (
	Create = "CREATE"
	Update = "UPDATE"
)

// Request is one admission request, as far as the decision needs it.
type Request struct {
	Kind      Kind
	Operation string // Create, Update or another operation of the admission API
	// Object is the raw JSON of the object as it would be stored.
	Object []byte
	// OldObject is the raw JSON of the object as it is stored, for Update.
	OldObject []byte
	// Namespace is the object's namespace; nil if its labels could not be
	// read, in which case no pod is injected.
	Namespace *Namespace
}

// Namespace is what the decision needs to know of the object's namespace. Its
// name comes from the request: objects may lack theirs at admission.
type Namespace struct {
	Name   string
	Labels map[string]string
}
