// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// carry makes the template's annotations follow the workload's, and fills res
// in. What the template itself says stays; what was carried is noted in
// podproc.io/carried with its value, so that it is known from what a user set
// or changed there, and can be taken away.
func (in *Injector) carry(r Request, w *workload, res *Result) {
	old := w.pod.Metadata.Annotations
	after := in.carried(w, res)
	if annotationSize(after) > maxAnnotations {
		res.Outcome, res.Reason, res.Message = Skipped, TooLarge, TooLarge.message("annotations of the pod template")
		res.Warnings = append(res.Warnings, warningPrefix+res.Message)
		return
	}
	at := r.Kind.templatePath() + "/metadata"
	var set []annotation
	for _, key := range slices.Sorted(maps.Keys(after)) {
		set = append(set, annotation{key, after[key]})
	}
	res.Patch = annotate(nil, at, w.hadMetadata, old, set)
	for _, key := range slices.Sorted(maps.Keys(old)) {
		if _, ok := after[key]; !ok {
			res.Patch = append(res.Patch, Operation{Op: "remove", Path: at + "/annotations/" + escape(key)})
		}
	}
	res.Outcome = Unchanged
	if len(res.Patch) > 0 {
		res.Outcome = Carried
	}
	in.foretell(r, w, after, res)
}

// carried returns the template's annotations as they should be.
func (in *Injector) carried(w *workload, res *Result) map[string]string {
	template := w.pod.Metadata
	marked := readMark(template.Annotations[CarriedKey])
	mark := make(map[string]string)
	after := make(map[string]string, len(template.Annotations)+2)
	maps.Copy(after, template.Annotations)
	for _, key := range in.userKeys() {
		value, want := w.meta.Annotations[key]
		if want && slices.Contains(in.keys, key) {
			if _, err := parseBool(value); err != nil {
				res.Warnings = append(res.Warnings, fmt.Sprintf("%s%s: %s", warningPrefix, key, err))
				want = false
			}
		}
		present, there := template.Annotations[key]
		was, ours := marked[key]
		ours = ours && there && was == present
		_, label := template.Labels[key]
		switch {
		case want && (ours || !there && !label):
			after[key], mark[key] = value, value
		case ours:
			delete(after, key)
		}
	}
	delete(after, CarriedKey)
	if len(mark) > 0 {
		b, _ := json.Marshal(mark) // strings: it cannot fail
		after[CarriedKey] = string(b)
	}
	return after
}

// userKeys are the annotations that a user sets.
func (in *Injector) userKeys() []string { return slices.Concat(in.keys, choiceKeys) }

// foretell decides on a pod of the template, so that the user learns when
// applying the workload what would otherwise only be seen on its pods.
func (in *Injector) foretell(r Request, w *workload, annotations map[string]string, res *Result) {
	p := w.pod
	p.Metadata = &metadata{Labels: w.pod.Metadata.Labels, Annotations: annotations}
	d := in.pod(&p, r.Namespace, 0)
	res.Template = &d.Result
	for _, problem := range few(d.problems) {
		res.Warnings = append(res.Warnings, warningPrefix+problem)
	}
	if d.Tell() && d.Reason != OptedOut {
		res.Warnings = append(res.Warnings, warningPrefix+"its pods will not be injected: "+d.Message)
	}
}

// readMark reads podproc.io/carried. What is not podproc's own marks nothing.
func readMark(value string) map[string]string {
	var mark map[string]string
	if json.Unmarshal([]byte(value), &mark) != nil {
		return nil
	}
	return mark
}
