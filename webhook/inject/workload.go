// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
)

// decideWorkload decides whether annotations of a workload are carried to its
// pod template: those of objects without a controller (an owned ReplicaSet
// whose template changes makes its Deployment create ReplicaSets without end),
// always on creation, on update only if this very request changes podproc's
// keys or the template, and of a Job only on creation.
func (in *Injector) decideWorkload(r Request) Result {
	now, err := decodeWorkload(r.Kind, r.Object)
	if err != nil {
		return failed(string(r.Kind), err)
	}
	old := &workload{}
	if r.Operation == Update {
		if old, err = decodeWorkload(r.Kind, r.OldObject); err != nil {
			return failed("old "+string(r.Kind), err)
		}
	}
	res := Result{Owner: now.meta.controller()}
	if reason := in.leaveWorkload(r, now, old, &res); reason != "" {
		res.Outcome, res.Reason, res.Message = Ignored, reason, reason.Text()
		res.Template = &in.pod(&now.pod, r.Namespace, 0).Result
		return res
	}
	in.carry(r, now, &res)
	return res
}

// leaveWorkload returns why a workload is not touched, or "".
func (in *Injector) leaveWorkload(r Request, now, old *workload, res *Result) Reason {
	update := r.Operation == Update
	keys := update && !maps.Equal(in.own(now.meta), in.own(old.meta))
	switch {
	case !in.concerns(now) && !(update && in.concerns(old)):
		return NotAsked
	case res.Owner != nil:
		return Owned
	case update && r.Kind == Job:
		if keys {
			res.Warnings = []string{warningPrefix + JobTemplate.Text()}
		}
		return JobTemplate
	case update && !keys && sameJSON(now.template, old.template):
		return TemplateUnchanged
	}
	return ""
}

// workload is a decoded workload.
type workload struct {
	meta        *metadata
	template    json.RawMessage
	pod         podObject // the template, decoded
	hadMetadata bool      // of the template
}

func decodeWorkload(k Kind, raw []byte) (*workload, error) {
	var o workloadObject
	if err := decode(raw, &o); err != nil {
		return nil, err
	}
	if o.Metadata == nil {
		o.Metadata = &metadata{}
	}
	w := &workload{meta: o.Metadata}
	var err error
	if w.template, err = o.template(k); err != nil {
		return nil, err
	}
	if w.pod, w.hadMetadata, err = decodePod(w.template); err != nil {
		return nil, fmt.Errorf("pod template: %w", err)
	}
	w.pod.template = true
	return w, nil
}

// own returns podproc's annotations of a workload, as far as a user sets them.
func (in *Injector) own(m *metadata) map[string]string {
	own := make(map[string]string)
	for _, key := range in.userKeys() {
		if value, ok := m.Annotations[key]; ok {
			own[key] = value
		}
	}
	return own
}

// concerns reports whether there is something to carry or to take away.
func (in *Injector) concerns(w *workload) bool {
	_, marked := w.pod.Metadata.Annotations[CarriedKey]
	return marked || len(in.own(w.meta)) > 0
}

// sameJSON compares two values, of which the API server may have written the
// members in another order.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var va, vb any
	return json.Unmarshal(a, &va) == nil && json.Unmarshal(b, &vb) == nil && reflect.DeepEqual(va, vb)
}
