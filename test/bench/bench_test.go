// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	asRole()
	os.Exit(m.Run())
}

// TestShort runs everything once and judges no time: that is for people.
func TestShort(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: this thread keeps its mount namespace
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv("PODPROC_BIN")
	if bin == "" {
		bin = "../../bin"
	}
	var out bytes.Buffer
	b, err := newBench(t.Context(), filepath.Join(bin, "podproc-node"), short, &out)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, part := range []func() error{b.machine, b.latencies, b.many, b.passing} {
		if err := part(); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
	}
	if got, want := strings.Count(out.String(), "\n| meminfo | "), 6; got != want {
		t.Errorf("%d rows of meminfo, want %d:\n%s", got, want, &out)
	}
}
