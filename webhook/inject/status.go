// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import "encoding/json"

const (
	evictKey        = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	evictVolumesKey = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

	// maxAnnotations is what the API server takes, keys and values together.
	maxAnnotations = 256 << 10
	// maxNames is how many bytes of container names a status holds.
	maxNames = 1024
)

// skip makes d a decision to leave the pod alone. A pod that did not ask or
// opts out gets no annotation either (the API server does not even send most of
// these); nor does one that has no room for it.
func (d *decision) skip(reason Reason, detail string) {
	d.Outcome, d.Reason, d.Message = Skipped, reason, reason.message(detail)
	switch reason {
	case NotAsked:
		d.Outcome = Ignored
	case OptedOut, TooLarge:
	default:
		d.Status = &Status{Outcome: Skipped, Reason: reason, Message: d.Message, Warnings: few(d.problems)}
	}
	d.warn()
	if d.Tell() && d.Owner == nil {
		d.Warnings = append(d.Warnings, warningPrefix+"not injected: "+d.Message)
	}
}

const warningPrefix = "podproc: "

func (d *decision) warn() {
	for _, p := range few(d.problems) {
		d.Warnings = append(d.Warnings, warningPrefix+p)
	}
}

// status describes the pod as it will be, not what this patch adds: it has to
// come out the same when the decision is made again.
func (pl *planner) status(problems []string) *Status {
	s := &Status{Outcome: Injected, Warnings: few(problems)}
	for i := range files {
		if pl.mounted.has(i) {
			s.Files = append(s.Files, files[i].name)
		}
	}
	length := 0
	for i := range pl.done {
		if c := &pl.done[i]; c.injected() {
			s.Containers = append(s.Containers, c.Name)
			length += len(c.Name)
		}
	}
	if length > maxNames {
		s.Containers, s.Count = nil, len(s.Containers)
	}
	return s
}

// injected reports whether the container has a file from podproc.
func (c *Container) injected() bool {
	for i := range c.Files {
		if c.Files[i].Reason == "" {
			return true
		}
	}
	return false
}

// encode writes s as the annotation's value.
func (s *Status) encode() string {
	b, err := json.Marshal(s)
	if err != nil { // not possible: all of it is strings and numbers
		return "{}"
	}
	return string(b)
}

// evictable returns the list of volumes that do not keep the cluster
// autoscaler from removing a node, with podproc's own appended: by a hostPath
// volume that is not in it a pod pins its node. The autoscaler splits it at
// commas and trims nothing. A user who set safe-to-evict has decided.
func evictable(annotations map[string]string, ours fileSet) (string, bool) {
	if _, decided := annotations[evictKey]; decided || ours == 0 {
		return "", false
	}
	value := annotations[evictVolumesKey]
	has := nameSet(value)
	for i := range files {
		if !ours.has(i) || has[files[i].volume] {
			continue
		}
		if value != "" {
			value += ","
		}
		value += files[i].volume
	}
	return value, true
}

// fitting leaves out annotations that would make the pod's too large for the
// API server; dropped tells whether the status is one of them.
func fitting(old map[string]string, set []annotation) (fit []annotation, dropped bool) {
	size := annotationSize(old)
	for i := len(set) - 1; i >= 0; i-- { // the autoscaler's list first
		a := set[i]
		grow := len(a.key) + len(a.value)
		if v, ok := old[a.key]; ok {
			grow = len(a.value) - len(v)
		}
		if size+grow > maxAnnotations {
			dropped = dropped || a.key == StatusKey
			continue
		}
		size += grow
		fit = append(fit, a)
	}
	return fit, dropped
}

func annotationSize(annotations map[string]string) int {
	size := 0
	for k, v := range annotations {
		size += len(k) + len(v)
	}
	return size
}
