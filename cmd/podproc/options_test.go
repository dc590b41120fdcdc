// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/podproc/podproc/cmd/internal/command"
)

func TestParseRun(t *testing.T) {
	const cmd = "true"
	defaults := []string{"proc/cpuinfo", "proc/meminfo", "proc/stat", "proc/swaps", "sys/devices/system/cpu/online"}
	tests := []struct {
		args string
		want options
		err  string // a part of it
	}{
		{args: "-- true", want: options{files: defaults}},
		{args: "true", want: options{files: defaults}},
		{args: "--memory 256Mi --cpus 1.5 --cpuset 0-1,3 -- true", want: options{memory: 256 << 20, quota: 150_000, cpuset: "0-1,3", files: defaults}},
		{args: "--memory 1.5Gi --cpus 500m true", want: options{memory: 3 << 29, quota: 50_000, files: defaults}},
		{args: "--memory 500M --cpus 10m true", want: options{memory: 500_000_000, quota: 1_000, files: defaults}},
		{args: "--memory 1e9 true", want: options{memory: 1_000_000_000, files: defaults}},
		{args: "--files meminfo,cpu/online,meminfo true", want: options{files: []string{"proc/meminfo", "sys/devices/system/cpu/online"}}},
		{args: "--files default,meminfo true", want: options{files: defaults}},
		{args: "--fs /run/x/ --files vmstat --cgroup-parent /a/b/ true", want: options{fs: "/run/x", files: []string{"proc/vmstat"}, parent: "/a/b"}},

		{args: "", err: "no command to run"},
		{args: "--memory 256", err: "no process can start in 256 bytes"},
		{args: "--memory 256MB true", err: "256Mi, 1.5Gi, 500M"},
		{args: "--memory -1Gi true", err: "no process can start"},
		{args: "--cpus 0 true", err: "smallest limit is 10m"},
		{args: "--cpus 5m true", err: "smallest limit is 10m"},
		{args: "--cpus 1e12 true", err: "no machine has that many CPUs"},
		{args: "--cpus one true", err: "2, 1.5, 500m"},
		{args: "--cpuset 1-0 true", err: "write a list of CPUs"},
		{args: "--cpuset 0, true", err: "write a list of CPUs"},
		{args: "--cpuset all true", err: "write a list of CPUs"},
		{args: "--files none true", err: `there is no file "none"; known are default, cpu/online`},
		{args: "--files , true", err: `there is no file ""`},
		{args: "--fs /x --files ../../etc/passwd true", err: "there is no file"},
		{args: "--cgroup-parent a true", err: "say the path from the root"},
		{args: "--nonsense true", err: "see podproc run --help"},
	}
	for _, tt := range tests {
		got, err := parseRun(strings.Fields(tt.args), io.Discard)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.As(err, new(command.UsageError)) {
				t.Errorf("%s: %v, want a usage error with %q", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		want := tt.want
		if want.parent == "" {
			want.parent = "/"
		}
		if got.memory != want.memory || got.quota != want.quota || got.cpuset != want.cpuset || got.fs != want.fs ||
			got.parent != want.parent || !slices.Equal(got.files, want.files) || !slices.Equal(got.command, []string{cmd}) {
			t.Errorf("%s: got %+v, want %+v", tt.args, *got, want)
		}
	}
}
