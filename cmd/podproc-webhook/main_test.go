// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/podproc/podproc/webhook/inject"
)

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args string
		err  string // "" for none
	}{
		{"", ""},
		{"--port=9443 --certificates=files --cert-dir=/certs --files= --inject-keys= --skip-nodes=", ""},
		{"--log-level=debug --user-namespaces --pod-security-default=baseline", ""},
		{"serve", `unexpected argument "serve"`},
		{"--certificates=vault", "want builtin or files"},
		{"--port=70000", "port number"},
		{"--shutdown-delay=-1s", "no less than 0"},
		{"--namespace=", "must not be empty"},
		{"--log-level=loud", "loud"},
		{"--no-such-flag", "no-such-flag"},
	} {
		_, err := parse(strings.Fields(test.args), io.Discard)
		if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %v, want %q", test.args, err, test.err)
		}
	}
}

// The flags' defaults are those of the packages that they configure.
func TestDefaults(t *testing.T) {
	o, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got, err := inject.New(o.inject)
	if err != nil {
		t.Fatal(err)
	}
	want, err := inject.New(inject.Config{})
	if err != nil {
		t.Fatal(err)
	}
	g, w := got.Config(), want.Config()
	for name, pair := range map[string][2]string{
		"files":              {strings.Join(g.Files, ","), strings.Join(w.Files, ",")},
		"keys":               {strings.Join(g.Keys, ","), strings.Join(w.Keys, ",")},
		"skip-nodes":         {strings.Join(g.SkipNodes, ","), strings.Join(w.SkipNodes, ",")},
		"skip-runtime-class": {strings.Join(g.SkipRuntimeClasses, ","), strings.Join(w.SkipRuntimeClasses, ",")},
		"mount-dir":          {g.Root, w.Root},
		"pod-security":       {g.PodSecurityDefault, w.PodSecurityDefault},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: default of the flag is %q, of package inject %q", name, pair[0], pair[1])
		}
	}
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, &out, io.Discard); err != nil || out.String() != "dev\n" {
		t.Errorf("--version: %q, %v", out.String(), err)
	}
	for args, want := range map[string]string{
		"--files=no-such-file":        "no-such-file",
		"--kubeconfig=/no/such/file":  "/no/such/file",
		"--pod-security-default=none": "none",
	} {
		if err := run(t.Context(), []string{args}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %q", args, err, want)
		}
	}
}

// Readiness is logged when it changes, not each time that the kubelet asks.
func TestReadiness(t *testing.T) {
	var log bytes.Buffer
	var err error
	r := &readiness{check: func() error { return err }, log: slog.New(slog.NewTextHandler(&log, nil))}
	get := func() (int, string) {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code, w.Body.String()
	}
	for _, step := range []struct {
		err   error
		code  int
		lines int
	}{
		{errors.New("one"), 503, 1}, {errors.New("one"), 503, 1}, {errors.New("two"), 503, 2}, {nil, 200, 3}, {nil, 200, 3}, {errors.New("two"), 503, 4},
	} {
		err = step.err
		code, body := get()
		if lines := strings.Count(log.String(), "\n"); code != step.code || lines != step.lines || err != nil && !strings.Contains(body, err.Error()) {
			t.Errorf("%v: %d %q and %d lines of log, want %d and %d", step.err, code, body, lines, step.code, step.lines)
		}
	}
}
