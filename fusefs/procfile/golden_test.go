// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// recorded returns the file of that path on all recorded machines, by the name
// of the machine.
func recorded(t testing.TB, path string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../testdata/machines/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded machines (%v)", err)
	}
	texts := map[string][]byte{}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name == path {
				texts[strings.TrimSuffix(filepath.Base(file), ".txtar")] = f.Data
			}
		}
	}
	return texts
}

// recordedHost returns all files of one machine, parsed.
func recordedHost(t testing.TB, machine string) *Host {
	t.Helper()
	h := new(Host)
	for s := range NumSources {
		text, ok := recorded(t, s.Path())[machine]
		if !ok {
			continue // as on the machine
		}
		if err := h.Parse(s, text); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// squeeze joins blanks, so that texts compare but for their room.
func squeeze(text []byte) string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}
