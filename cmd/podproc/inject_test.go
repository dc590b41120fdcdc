// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/podproc/podproc/cmd/internal/command"
)

var update = flag.Bool("update", false, "rewrite want in testdata/inject")

// A scenario is a txtar file: args (one a line), the files that they name, in
// for standard input, and want: standard output, then standard error, then the
// error.
func TestInject(t *testing.T) {
	paths, err := filepath.Glob("testdata/inject/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			path, err := filepath.Abs(path) // unpack changes the directory
			if err != nil {
				t.Fatal(err)
			}
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			args, stdin, want := unpack(t, archive)
			var stdout, stderr bytes.Buffer
			err = runInject(context.Background(), args, strings.NewReader(stdin), &stdout, &stderr)
			got := stdout.String()
			if stderr.Len() > 0 {
				got += "=== stderr\n" + stderr.String()
			}
			if err != nil {
				got += fmt.Sprintf("=== error\n%v\n", err)
			}
			if *update {
				archive.Files = append(archive.Files[:len(archive.Files)-1], txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// unpack writes a scenario's files where the test runs.
func unpack(t *testing.T, archive *txtar.Archive) (args []string, stdin, want string) {
	t.Helper()
	dir := t.TempDir()
	files := archive.Files
	if n := len(files) - 1; n < 0 || files[n].Name != "want" {
		t.Fatal("the last file is not want")
	}
	for _, f := range files {
		switch f.Name {
		case "args":
			args = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		case "in":
			stdin = string(f.Data)
		case "want":
			want = string(f.Data)
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Chdir(dir)
	return args, stdin, want
}

// What is printed is what was decided: injecting the output again changes
// nothing, to the byte.
func TestInjectAgain(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/inject/several.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, _, _ = unpack(t, archive)
	once := inject1(t, "in.yaml")
	if err := os.WriteFile("once.yaml", once, 0o644); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(once), string(inject1(t, "once.yaml"))); diff != "" {
		t.Errorf("injecting again changes (-once +twice):\n%s", diff)
	}
}

func inject1(t *testing.T, file string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if err := runInject(context.Background(), []string{"-f", file}, nil, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	return stdout.Bytes()
}

func TestInjectUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"--bogus"}, {"--namespace-label", "x", "-f", "-"}, {"--files", "vmstat", "-f", "-"}, {"--pod-security-default", "high", "-f", "-"},
	} {
		err := runInject(context.Background(), args, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
		if !errors.As(err, new(command.UsageError)) {
			t.Errorf("%q: error %v is not one of usage", args, err)
		}
	}
	var stdout bytes.Buffer
	err := runInject(context.Background(), []string{"--help"}, nil, &stdout, &bytes.Buffer{})
	if err != flag.ErrHelp || !strings.HasPrefix(stdout.String(), "podproc inject") || !strings.Contains(stdout.String(), "-namespace-label") {
		t.Errorf("--help: error %v, printed:\n%s", err, stdout.String())
	}
}
