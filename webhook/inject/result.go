// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import "encoding/json"

// Outcome is what was decided, in one word: a value for a metric.
type Outcome string

// The outcomes of a decision.
const (
	Injected  Outcome = "injected"  // a pod (or ephemeral container) gets mounts by this patch
	Unchanged Outcome = "unchanged" // asked for, and all of it is there already
	Skipped   Outcome = "skipped"   // asked for, and not done: Reason says why
	Ignored   Outcome = "ignored"   // not podproc's business: Reason says why
	Carried   Outcome = "carried"   // a workload's annotations are carried to its pod template
	Failed    Outcome = "failed"    // the object could not be read: let it pass
)

// Result is a decision.
type Result struct {
	Outcome Outcome
	// Reason says why a pod is not injected or a workload not touched; empty
	// for Injected, Carried and Unchanged.
	Reason Reason
	// Message is a sentence for people: for Skipped, Ignored and Failed the
	// reason with its particulars (which runtime class, which level), without
	// anything secret from the object. It is one line, without a prefix.
	Message string
	// Patch is the JSON Patch to apply to Request.Object; empty for none.
	Patch []Operation
	// Warnings are for the user who made the request, each one line that starts
	// with "podproc: ". They include the Message of a skipped pod if it has no
	// controller owner, and what is wrong in podproc's annotations.
	Warnings []string
	// Status is what podproc.io/status of the pod says after the patch, nil if
	// the pod has none from this decision.
	Status *Status
	// Owner is the object's controller owner, nil if it has none.
	Owner *Owner
	// Containers says of every container what it got; for pods only. Of a pod
	// that is left alone it says so of each, if the object could be read.
	Containers []Container
	// Template is, for a workload whose template could be read, the decision on
	// a pod made from the template as patched (Patch and Warnings are those of
	// that pod). For explanations; nil for pods.
	Template *Result
}

// Tell reports whether the user should learn of this Result by an Event on the
// controller owner: it was asked for and not done.
func (r *Result) Tell() bool { return r.Outcome == Skipped && r.Reason.Tell() }

// PatchJSON is the patch as the admission API wants it, nil for none.
func (r *Result) PatchJSON() ([]byte, error) {
	if len(r.Patch) == 0 {
		return nil, nil
	}
	return json.Marshal(r.Patch)
}

// Operation is one operation of a JSON Patch (RFC 6902): "add" or, for what
// podproc has carried to a template, "remove".
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`            // a JSON Pointer
	Value any    `json:"value,omitempty"` // for add: anything that encoding/json can encode
}

// Owner is the controller owner of an object.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// Status is the value of the annotation podproc.io/status, as JSON.
type Status struct {
	Outcome    Outcome  `json:"outcome"`              // Injected or Skipped
	Reason     Reason   `json:"reason,omitempty"`     // for Skipped
	Message    string   `json:"message,omitempty"`    // for Skipped
	Files      []string `json:"files,omitempty"`      // that at least one container has from podproc
	Containers []string `json:"containers,omitempty"` // that have them; no names if these are too long, see Count
	Count      int      `json:"count,omitempty"`      // of Containers, where their names are left out
	Warnings   []string `json:"warnings,omitempty"`   // what was wrong in the annotations
}

// Role says what kind of container it is.
type Role string

// The roles of containers in a pod.
const (
	AppContainer       Role = "container"
	InitContainer      Role = "init container"
	SidecarContainer   Role = "sidecar container" // an init container with restartPolicy Always
	EphemeralContainer Role = "ephemeral container"
)

// Container is what was decided about one container.
type Container struct {
	Name   string
	Role   Role
	Reason Reason // why the whole container is left alone, the pod's if that is; empty otherwise
	Files  []File // in the order of the file table; empty if Reason is set
}

// File is what was decided about one file in one container.
type File struct {
	Name   string // as in podproc.io/files
	Reason Reason // why it is not mounted; empty if it is mounted by podproc
	Added  bool   // the mount comes from this patch; false: it was there before
}
