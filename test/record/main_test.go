// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestRecord records this process on this machine.
func TestRecord(t *testing.T) {
	var out bytes.Buffer
	if err := run(nil, &out); err != nil {
		t.Fatal(err)
	}
	a := txtar.Parse(out.Bytes())
	if want := fmt.Sprintf("\nReaders: %d\n", os.Getpid()); !strings.Contains(string(a.Comment), want) {
		t.Errorf("comment is %q, want %q in it", a.Comment, want)
	}
	have := map[string]bool{}
	cgroups := 0
	for _, f := range a.Files {
		have[f.Name] = true
		if strings.HasPrefix(f.Name, "cgroup/") {
			cgroups++
		}
	}
	for _, name := range []string{"proc/meminfo", "proc/uptime", "sys/devices/system/cpu/online",
		fmt.Sprintf("proc/%d/cgroup", os.Getpid()), fmt.Sprintf("proc/%d/ns/pid", os.Getpid())} {
		if !have[name] {
			t.Errorf("no %s", name)
		}
	}
	if cgroups == 0 {
		t.Error("no control file of any cgroup")
	}
	if err := run([]string{"--pid", "0"}, &out); err == nil {
		t.Error("recorded process 0")
	}
}
