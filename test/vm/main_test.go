// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podproc/podproc/test/vm/wire"
)

func TestPackagesFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "packages.txt")
	text := "# vm: a comment alone\nprocps # vm: free\nqemu # for the VM\n\nbash # vm\nvm\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := packagesFor(file)
	if want := []string{"procps", "bash"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("packagesFor = %q, %v, want %q", got, err, want)
	}
}

// TestReport: a package that passed says only what it skipped, one that failed
// says everything.
func TestReport(t *testing.T) {
	output := []byte("=== RUN   TestA\n    a_test.go:9: some words\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n    b_test.go:1: no PSI\n--- SKIP: TestB (0.00s)\nPASS\n")
	for _, tt := range []struct {
		name string
		exit int
		want string
	}{
		{"passed", 0, "    b_test.go:1: no PSI\n--- SKIP: TestB (0.00s)\nok  \tgithub.com/podproc/podproc/fusefs\t2.000s\t(in the VM)\n"},
		{"failed", 1, string(output) + "FAIL\tgithub.com/podproc/podproc/fusefs\t2.000s\t(in the VM)\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			suite{}.report(&got, "fusefs", wire.Event{Done: true, Exit: tt.exit, Took: 2 * time.Second}, output)
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
