// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

// checkInvariants decides on r and checks what has to hold of every decision.
// It returns the decision and the object as patched.
func checkInvariants(t testing.TB, in *Injector, r Request) (Result, []byte) {
	t.Helper()
	before := bytes.Clone(r.Object)
	res := in.Decide(r)
	if !bytes.Equal(before, r.Object) {
		t.Fatal("the object was written to")
	}
	checkShape(t, res)
	patched := apply(t, r.Object, res.Patch)
	if len(res.Patch) > 0 {
		var was, is any
		unmarshal(t, r.Object, &was)
		unmarshal(t, patched, &is)
		kept(t, "", was, is, mayChange(r.Kind, was))
	}
	again := r
	again.Object = patched
	second := in.Decide(again)
	if len(second.Patch) > 0 {
		b, _ := second.PatchJSON()
		t.Errorf("deciding again patches again: %s", b)
	}
	if !reflect.DeepEqual(second.Status, res.Status) {
		t.Errorf("deciding again gives status %+v, first %+v", second.Status, res.Status)
	}
	return res, patched
}

// checkShape checks what a Result promises about its fields.
func checkShape(t testing.TB, res Result) {
	t.Helper()
	why := res.Outcome == Skipped || res.Outcome == Ignored || res.Outcome == Failed
	if why != (res.Reason != "") || why != (res.Message != "") {
		t.Errorf("outcome %s with reason %q and message %q", res.Outcome, res.Reason, res.Message)
	}
	for _, s := range append(append([]string{}, res.Warnings...), res.Message) {
		if strings.ContainsAny(s, "\n\r") || len(s) > 1000 {
			t.Errorf("not one short line: %q", s)
		}
	}
	for _, w := range res.Warnings {
		if !strings.HasPrefix(w, "podproc: ") {
			t.Errorf("warning %q does not say who warns", w)
		}
	}
	for _, op := range res.Patch {
		if op.Op != "add" && op.Op != "remove" {
			t.Errorf("operation %s %s", op.Op, op.Path)
		}
	}
	switch res.Outcome {
	case Failed, Ignored:
		if len(res.Patch) > 0 {
			t.Errorf("outcome %s with a patch", res.Outcome)
		}
	case Injected, Carried:
		if len(res.Patch) == 0 {
			t.Errorf("outcome %s without a patch", res.Outcome)
		}
	}
}

func apply(t testing.TB, object []byte, ops []Operation) []byte {
	t.Helper()
	if len(ops) == 0 {
		return object
	}
	b, err := (&Result{Patch: ops}).PatchJSON()
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(b)
	if err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	out, err := patch.Apply(object)
	if err != nil {
		t.Fatalf("apply %s: %v", b, err)
	}
	return out
}

// mayChange returns the JSON Pointers of values that are podproc's to change.
func mayChange(k Kind, object any) map[string]bool {
	paths := make(map[string]bool)
	for _, key := range []string{StatusKey, evictVolumesKey} {
		paths["/metadata/annotations/"+escape(key)] = true
	}
	if !k.Workload() {
		return paths
	}
	at := k.templatePath() + "/metadata/annotations/"
	paths[at+escape(CarriedKey)] = true
	mark, _ := lookup(object, at+escape(CarriedKey)).(string)
	for key := range readMark(mark) {
		paths[at+escape(key)] = true
	}
	return paths
}

func lookup(v any, pointer string) any {
	for _, token := range strings.Split(pointer, "/")[1:] {
		m, _ := v.(map[string]any)
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	return v
}

// kept checks that nothing of was is missing from is or different there.
func kept(t testing.TB, at string, was, is any, except map[string]bool) {
	t.Helper()
	if except[at] || was == nil {
		return
	}
	switch was := was.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		if !ok {
			t.Errorf("%s is no object any more", at)
			return
		}
		for key, v := range was {
			p := at + "/" + escape(key)
			if _, ok := is[key]; !ok && !except[p] {
				t.Errorf("%s is lost", p)
				continue
			}
			kept(t, p, v, is[key], except)
		}
	case []any:
		is, ok := is.([]any)
		if !ok || len(is) < len(was) {
			t.Errorf("%s has lost elements", at)
			return
		}
		for i, v := range was {
			kept(t, at+"/-", v, is[i], except)
		}
	default:
		if !reflect.DeepEqual(was, is) {
			t.Errorf("%s was %v, is %v", at, was, is)
		}
	}
}

func unmarshal(t testing.TB, b []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
}
