// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var given []string
	p := &Program{Name: "prog", Version: "1.2", Usage: "how to use prog\n", Usual: "go", Commands: map[string]Func{
		"go": func(_ context.Context, args []string, _ io.Reader, _, _ io.Writer) error {
			given = args
			return nil
		},
		"fail": func(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return errors.New("no") },
		"flags": func(_ context.Context, args []string, _ io.Reader, stdout, _ io.Writer) error {
			f := flag.NewFlagSet("prog flags", flag.ContinueOnError)
			f.Int("n", 1, "a `NUMBER`")
			return Parse(f, args, "how to use flags\n", stdout)
		},
	}}
	for _, test := range []struct {
		args           string
		stdout, stderr string // beginnings
		err            string // a part; "" for none
		status         int
	}{
		{"", "", "how to use prog", "no command given; the usual one is go", 2},
		{"--help", "how to use prog", "", "", 0},
		{"help", "how to use prog", "", "", 0},
		{"--version", "prog 1.2\n", "", "", 0},
		{"go a --b", "", "", "", 0},
		{"stop", "", "", `unknown command "stop"; see prog --help`, 2},
		{"fail", "", "", "no", 1},
		{"flags --n 2", "", "", "", 0},
		{"flags --help", "how to use flags\n\nFlags:\n  -n NUMBER", "", "help requested", 0},
		{"flags --n x", "", "", "see prog flags --help", 2},
		{"flags --m", "", "", "see prog flags --help", 2},
	} {
		var stdout, stderr bytes.Buffer
		err := p.Run(t.Context(), strings.Fields(test.args), nil, &stdout, &stderr)
		if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) || Status(err) != test.status {
			t.Errorf("%q: %v, status %d; want %q, %d", test.args, err, Status(err), test.err, test.status)
		}
		for name, pair := range map[string][2]string{"stdout": {stdout.String(), test.stdout}, "stderr": {stderr.String(), test.stderr}} {
			if !strings.HasPrefix(pair[0], pair[1]) || (pair[1] == "") != (pair[0] == "") {
				t.Errorf("%q: %s is %q, want %q", test.args, name, pair[0], pair[1])
			}
		}
	}
	if strings.Join(given, " ") != "a --b" {
		t.Errorf("the command was given %q", given)
	}
	p.Usual = ""
	if err := p.Run(t.Context(), nil, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "see prog --help") {
		t.Errorf("no command, and none is usual: %v", err)
	}
}
