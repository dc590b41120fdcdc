// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite want in testdata/scenarios")

// A scenario is a txtar file: what it pins in its comment, then request.yaml
// (the fields below; all optional), object.yaml, old.yaml
// and want.
type scenario struct {
	Kind      Kind
	Operation string
	Namespace *Namespace
	Unknown   bool // the namespace could not be read
	Config    Config
	Pad       int // bytes of blanks that make the object as long as a large one

	object, old []byte
}

func readScenario(t testing.TB, path string) (scenario, *txtar.Archive) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := scenario{Kind: Pod, Operation: Create, Namespace: &Namespace{Name: "default"}}
	for _, f := range archive.Files {
		switch f.Name {
		case "request.yaml":
			err = yaml.UnmarshalStrict(f.Data, &s)
		case "object.yaml":
			s.object, err = yaml.YAMLToJSON(f.Data)
		case "object.json":
			s.object = f.Data
		case "old.yaml":
			s.old, err = yaml.YAMLToJSON(f.Data)
		case "want":
		default:
			t.Fatalf("%s: unknown file %s", path, f.Name)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", path, f.Name, err)
		}
	}
	s.object = append(s.object, bytes.Repeat([]byte{' '}, s.Pad)...)
	if s.Unknown {
		s.Namespace = nil
	}
	return s, archive
}

func (s *scenario) request() Request {
	return Request{Kind: s.Kind, Operation: s.Operation, Object: s.object, OldObject: s.old, Namespace: s.Namespace}
}

func scenarios(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	return paths
}

func TestScenarios(t *testing.T) {
	for _, path := range scenarios(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s, archive := readScenario(t, path)
			in, err := New(s.Config)
			if err != nil {
				t.Fatal(err)
			}
			res, patched := checkInvariants(t, in, s.request())
			if res.Outcome != Failed {
				checkStrict(t, s.Kind, s.object, patched)
			}
			got := describe(t, res)
			if *update {
				setWant(archive, got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want(archive), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func want(a *txtar.Archive) string {
	for _, f := range a.Files {
		if f.Name == "want" {
			return string(f.Data)
		}
	}
	return ""
}

func setWant(a *txtar.Archive, got string) {
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
}

// describe writes a Result for people.
func describe(t testing.TB, res Result) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "outcome: %s\n", res.Outcome)
	if res.Reason != "" {
		fmt.Fprintf(&b, "reason: %s\nmessage: %s\ntell: %v\n", res.Reason, res.Message, res.Tell())
	}
	if res.Owner != nil {
		fmt.Fprintf(&b, "owner: %s %s\n", res.Owner.Kind, res.Owner.Name)
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if res.Status != nil {
		fmt.Fprintf(&b, "status: %s\n", res.Status.encode())
	}
	describeContainers(&b, "", res)
	if res.Template != nil {
		fmt.Fprintf(&b, "template: %s %s\n", res.Template.Outcome, res.Template.Reason)
		describeContainers(&b, "template ", *res.Template)
	}
	for _, op := range res.Patch {
		fmt.Fprintf(&b, "%s %s", op.Op, op.Path)
		if op.Value != nil {
			value, err := json.Marshal(op.Value)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %s", value)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func describeContainers(b *bytes.Buffer, prefix string, res Result) {
	for _, c := range res.Containers {
		fmt.Fprintf(b, "%s%s %s:", prefix, c.Role, c.Name)
		if c.Reason != "" {
			fmt.Fprintf(b, " %s", c.Reason)
		}
		for _, f := range c.Files {
			switch {
			case f.Reason != "":
				fmt.Fprintf(b, " %s(%s)", f.Name, f.Reason)
			case f.Added:
				fmt.Fprintf(b, " +%s", f.Name)
			default:
				fmt.Fprintf(b, " %s", f.Name)
			}
		}
		b.WriteByte('\n')
	}
}

// checkStrict checks that the patch brings in no field that the API does not
// have: the patched object has the same strict errors as the object had.
func checkStrict(t testing.TB, k Kind, object, patched []byte) {
	t.Helper()
	types := map[Kind]func() any{
		Pod: func() any { return new(corev1.Pod) }, EphemeralContainers: func() any { return new(corev1.Pod) },
		Deployment: func() any { return new(appsv1.Deployment) }, StatefulSet: func() any { return new(appsv1.StatefulSet) },
		DaemonSet: func() any { return new(appsv1.DaemonSet) }, ReplicaSet: func() any { return new(appsv1.ReplicaSet) },
		Job: func() any { return new(batchv1.Job) }, CronJob: func() any { return new(batchv1.CronJob) },
	}
	make, ok := types[k]
	if !ok {
		return
	}
	before, err := kjson.UnmarshalStrict(object, make())
	if err != nil {
		return // not such an object to begin with
	}
	after, err := kjson.UnmarshalStrict(patched, make())
	if err != nil {
		t.Errorf("the patched object is no %s any more: %v", k, err)
	}
	if len(after) != len(before) {
		t.Errorf("strict errors before: %v, after: %v", before, after)
	}
}

// Every reason has a scenario in which it is the pod's or the workload's, or
// that of a container or file where it is only theirs.
func TestEveryReasonHasAScenario(t *testing.T) {
	seen := make(map[Reason]bool)
	for _, path := range scenarios(t) {
		s, _ := readScenario(t, path)
		in, err := New(s.Config)
		if err != nil {
			t.Fatal(err)
		}
		res := in.Decide(s.request())
		seen[res.Reason] = true
		for _, c := range res.Containers {
			seen[c.Reason] = true
			for _, f := range c.Files {
				seen[f.Reason] = true
			}
		}
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Reasons() {
		if !seen[r] {
			t.Errorf("reason %s has no scenario", r)
		}
		if r.Text() == "" || r.Text() == string(r) {
			t.Errorf("reason %s has no text", r)
		}
		if row := fmt.Sprintf("| `%s` | %s |\n", r, r.Text()); !strings.Contains(string(readme), row) {
			t.Errorf("webhook/README.md lacks the row %s", row)
		}
	}
}

// A reason that is not in the table has no text and is never told.
func TestReasonsAreUnique(t *testing.T) {
	seen := make(map[Reason]bool)
	for _, r := range Reasons() {
		if seen[r] {
			t.Errorf("reason %s is there twice", r)
		}
		seen[r] = true
	}
}
