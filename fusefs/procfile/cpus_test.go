// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"slices"
	"testing"

	"github.com/podproc/podproc/fusefs/view"
)

func online(t testing.TB, list string) *HostOnline {
	t.Helper()
	h, err := ParseOnline([]byte(list + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCountCPUs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		host    string
		quota   view.Limit // thousandths
		cpuset  string
		n       int
		limited bool
		whole   bool
		online  string
	}{
		{"500m", "0-3", 500, "0-3", 1, true, false, "0"},
		{"1m", "0-3", 1, "0-3", 1, true, false, "0"},
		{"0", "0-3", 0, "0-3", 1, true, false, "0"},
		{"1", "0-3", 1000, "0-3", 1, true, false, "0"},
		{"1001m", "0-3", 1001, "0-3", 2, true, false, "0-1"},
		{"1500m", "0-3", 1500, "0-3", 2, true, false, "0-1"},
		{"as many as the host has", "0-3", 4000, "0-3", 4, false, true, "0-3"},
		{"more than the host has", "0-3", 64000, "0-3", 4, false, true, "0-3"},
		{"no limit", "0-3", view.Unlimited, "0-3", 4, false, true, "0-3"},
		{"no limit, gaps", "0,2-3,8", view.Unlimited, "0,2-3,8", 4, false, true, "0,2-3,8"},
		{"cpuset", "0-3", view.Unlimited, "1,3", 2, true, true, "0-1"},
		{"cpuset below quota", "0-7", 4000, "5", 1, true, true, "0"},
		{"cpuset above quota", "0-7", 2000, "4-7", 2, true, false, "0-1"},
		{"cpuset with a CPU gone", "0-2", view.Unlimited, "2-3", 1, true, true, "0"},
		{"cpuset with all CPUs gone", "0-2", view.Unlimited, "3", 3, false, true, "0-2"},
		{"unknown cpuset", "0-2", 2000, "", 2, true, false, "0-1"},
		{"huge quota", "0-2", view.Unlimited - 1, "", 3, false, true, "0-2"},
	} {
		v := &view.CPU{Quota: tt.quota}
		if tt.cpuset != "" {
			v.Cpuset = slices.Clone(online(t, tt.cpuset).CPUs)
		}
		host := online(t, tt.host)
		c := CountCPUs(v, host)
		if c.N != tt.n || c.Limited != tt.limited || c.Whole != tt.whole || len(c.Host) < c.N {
			t.Errorf("%s: got %+v, want %d CPUs, limited %v, whole %v", tt.name, c, tt.n, tt.limited, tt.whole)
		}
		if got := string(Online(nil, host, c)); got != tt.online+"\n" {
			t.Errorf("%s: online is %q, want %q", tt.name, got, tt.online)
		}
	}
}

func TestParseOnlineErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "",
		"empty-list":  "\n",
		"cut-short":   "0-3",
		"backwards":   "3-0\n",
		"descending":  "4,2\n",
		"overlapping": "0-3,3\n",
		"no-end":      "0-\n",
		"words":       "all\n",
		"huge":        "0-4294967295\n",
	} {
		if _, err := ParseOnline([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
