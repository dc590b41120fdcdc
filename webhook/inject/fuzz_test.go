// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
)

// fuzzKinds are the ways by which an object can come.
var fuzzKinds = []Request{
	{Kind: Pod, Operation: Create},
	{Kind: EphemeralContainers, Operation: Update},
	{Kind: Deployment, Operation: Create},
	{Kind: Deployment, Operation: Update},
	{Kind: Job, Operation: Update},
	{Kind: CronJob, Operation: Create},
	{Kind: CronJob, Operation: Update},
}

// FuzzDecide: whatever is sent, podproc does not panic, its patch applies,
// nothing is lost, a pod stays a pod, and deciding again adds nothing.
func FuzzDecide(f *testing.F) {
	for _, path := range scenarios(f) {
		s, _ := readScenario(f, path)
		for way, r := range fuzzKinds {
			if r.Kind == s.Kind && r.Operation == s.Operation {
				f.Add(uint8(way), s.object, s.old, s.Namespace != nil && len(s.Namespace.Labels) > 0)
			}
		}
	}
	in, err := New(Config{Keys: []string{"example.com/lxcfs"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, way uint8, object, old []byte, labelled bool) {
		r := fuzzKinds[int(way)%len(fuzzKinds)]
		r.Object, r.OldObject = object, old
		r.Namespace = &Namespace{Name: "team"}
		if labelled {
			r.Namespace.Labels = map[string]string{InjectKey: "true"}
		}
		if !plain(object) {
			in.Decide(r)
			return
		}
		_, patched := checkInvariants(t, in, r)
		if r.Kind != Pod && r.Kind != EphemeralContainers {
			return
		}
		if _, err := kjson.UnmarshalStrict(object, new(corev1.Pod)); err == nil {
			if _, err := kjson.UnmarshalStrict(patched, new(corev1.Pod)); err != nil {
				t.Errorf("no pod any more: %v", err)
			}
		}
	})
}

// plain reports whether a JSON text means the same to every reader: no member
// twice, and no invalid UTF-8 that a decoder replaces. The API server sends
// nothing else.
func plain(b []byte) bool {
	d := json.NewDecoder(bytes.NewReader(b))
	var v any
	if json.Unmarshal(b, &v) != nil {
		return true
	}
	again, err := json.Marshal(v)
	if err != nil {
		return false
	}
	return countTokens(json.NewDecoder(bytes.NewReader(again))) == countTokens(d)
}

func countTokens(d *json.Decoder) int {
	for n := 0; ; n++ {
		if _, err := d.Token(); err != nil {
			return n
		}
	}
}

// FuzzShapes sends well-formed JSON of strange shapes: it mutates the objects
// of the scenarios as trees.
func FuzzShapes(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed)
	}
	var seeds []scenario
	for _, path := range scenarios(f) {
		s, _ := readScenario(f, path)
		if json.Valid(s.object) && len(s.object) < 1<<20 {
			seeds = append(seeds, s)
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := seeds[rnd.IntN(len(seeds))]
		in, err := New(s.Config)
		if err != nil {
			t.Fatal(err)
		}
		r := s.request()
		r.Object = mutated(t, rnd, s.object)
		if len(s.old) > 0 && rnd.IntN(2) == 0 {
			r.OldObject = mutated(t, rnd, s.old)
		}
		checkInvariants(t, in, r)
	})
}

func mutated(t testing.TB, rnd *rand.Rand, object []byte) []byte {
	var v any
	unmarshal(t, object, &v)
	for range 1 + rnd.IntN(4) {
		v = mutate(rnd, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stranger makes a value that turns up where another is expected.
func stranger(rnd *rand.Rand) any {
	strangers := []any{
		nil, true, 0, -1.5, "", "true", "false", "default,stat,nonsense", "/proc/meminfo", "/proc", "/sys//devices/../devices", "podproc-meminfo", "Unmasked",
		[]any{}, map[string]any{}, []any{nil}, map[string]any{"podproc.io/inject": "true"}, "app",
		map[string]any{"name": "podproc-stat", "hostPath": map[string]any{"path": "/run/podproc/fs/proc/stat", "type": "File"}},
		map[string]any{"name": "podproc-stat", "mountPath": "/proc/stat"},
	}
	return strangers[rnd.IntN(len(strangers))]
}

func mutate(rnd *rand.Rand, v any) any {
	if rnd.IntN(8) == 0 {
		return stranger(rnd)
	}
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 {
			return stranger(rnd)
		}
		key := keys[rnd.IntN(len(keys))]
		if rnd.IntN(8) == 0 {
			delete(v, key)
			return v
		}
		v[key] = mutate(rnd, v[key])
		return v
	case []any:
		switch i := rnd.IntN(len(v) + 1); {
		case i == len(v):
			return append(v, stranger(rnd))
		case rnd.IntN(8) == 0:
			return append(v, clone(v[i]))
		default:
			v[i] = mutate(rnd, v[i])
			return v
		}
	}
	return stranger(rnd)
}

// clone copies a tree, so that a mutation of the copy leaves the other alone.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for key, value := range v {
			c[key] = clone(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = clone(v[i])
		}
		return c
	}
	return v
}
