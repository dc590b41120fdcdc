// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/podproc/podproc/fusefs"
)

func get(t *testing.T, m *monitor, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// What may be counted is there from the start: an increase from nothing is
// none to Prometheus.
func TestMetricsFromTheStart(t *testing.T) {
	m := newMonitor()
	fs, err := fusefs.New(fusefs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	m.watch(fs)
	_, text := get(t, m, "/metrics")
	for _, want := range []string{
		"podproc_active 0", `podproc_build_info{version="dev"} 1`, "podproc_containers 0", "podproc_overdue_reads_total 0",
		`podproc_takeovers_total{cause="died"} 0`, `podproc_takeovers_total{cause="silent"} 0`,
		`podproc_takeovers_total{cause="handover"} 0`, `podproc_takeovers_total{cause="first"} 0`,
		"podproc_replayed_requests_total 0", "podproc_repaired_mounts_total 0", "podproc_failed_repairs_total 0",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestReady(t *testing.T) {
	m := newMonitor()
	if code, text := get(t, m, "/readyz"); code != http.StatusServiceUnavailable || text != "starting\n" {
		t.Errorf("at first: %d %q", code, text)
	}
	m.setReady(nil)
	if code, text := get(t, m, "/readyz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("when ready: %d %q", code, text)
	}
	m.setReady(errors.New("no fuse"))
	if code, text := get(t, m, "/readyz"); code != http.StatusServiceUnavailable || text != "no fuse\n" {
		t.Errorf("with an error: %d %q", code, text)
	}
	if code, text := get(t, m, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %q", code, text)
	}
	m.looked.Store(0)
	if code, text := get(t, m, "/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "stuck") {
		t.Errorf("/healthz when no file can be rendered: %d %q", code, text)
	}
}
