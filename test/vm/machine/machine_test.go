// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podproc/podproc/test/vm/wire"
)

const cache = "../../../.cache/vm"

func TestClosure(t *testing.T) {
	d := parseDebian("installed\tfree\t1\tlibc (>= 2), lib2:any | lib3, debconf\t\n" +
		"installed\tlib3\t3\t\t\n" +
		"installed\tlibc-ng\t2\tfree\tlibc (= 2)\n" +
		"installed\tdebconf\t2\tperl\t\n" +
		"deinstall\tlib2\t2\t\t\n")
	got, err := d.closure([]string{"free"})
	if want := []string{"free", "lib3", "libc-ng"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("closure = %q, %v, want %q", got, err, want)
	}
	if _, err := d.closure([]string{"lib2"}); err == nil || !strings.Contains(err.Error(), "lib2") {
		t.Errorf("closure of a package that is not installed: %v", err)
	}
}

// TestCPIO lets cpio itself read what the kernel will have to.
func TestCPIO(t *testing.T) {
	host := t.TempDir() + "/host"
	if err := os.WriteFile(host, []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	c := &cpio{w: &archive}
	for _, err := range []error{c.dir("lib"), c.file("lib/init", host), c.close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("busybox", "cpio", "-i")
	cmd.Dir, cmd.Stdin = t.TempDir(), &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(cmd.Dir + "/lib/init"); err != nil || string(got) != "12345" {
		t.Errorf("unpacked %q, %v", got, err)
	}
}

// TestRun boots the machine: output and exit status of each job come back, a
// hung job is ended and the next one runs.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	m := Machine{
		Image:   Image{Packages: []string{"busybox-static"}},
		Cache:   cache,
		Payload: map[string]string{"greeting": "testdata/greeting"},
		Swap:    64 << 20,
	}
	shell := func(script string) wire.Job {
		return wire.Job{Dir: wire.Payload, Args: []string{"/bin/busybox", "sh", "-c", script}, Limit: time.Minute}
	}
	hung := shell("echo before; exec busybox sleep 1000")
	hung.Limit = 10 * time.Second
	jobs := []wire.Job{
		shell("busybox cat greeting /sys/fs/cgroup/cgroup.controllers; exit 3"),
		hung,
		shell("busybox tail -n +2 /proc/swaps; kill -9 $$"),
	}
	outputs, exits := make([]string, len(jobs)), make([]int, len(jobs))
	err := m.Run(ctx, jobs, func(ev wire.Event) {
		outputs[ev.Job] += string(ev.Output)
		exits[ev.Job] += ev.Exit
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{3, 124, 137}; !cmp.Equal(exits, want) {
		t.Errorf("exit statuses %v, want %v", exits, want)
	}
	for i, want := range []string{"hello\ncpuset cpu io memory", "before\n", "65532"} {
		if !strings.Contains(outputs[i], want) {
			t.Errorf("job %d said %q, want %q in it", i, outputs[i], want)
		}
	}
}

// TestRunAgain: a machine that does not come up is switched off and on.
func TestRunAgain(t *testing.T) {
	defer func(limits []time.Duration) { bootLimits = limits }(bootLimits)
	bootLimits = append([]time.Duration{time.Millisecond}, bootLimits...)
	m := Machine{Image: Image{Packages: []string{"busybox-static"}}, Cache: cache}
	said := ""
	err := m.Run(t.Context(), []wire.Job{{Args: []string{"/bin/busybox", "echo", "here"}}}, func(ev wire.Event) { said += string(ev.Output) })
	if err != nil || said != "here\n" {
		t.Errorf("said %q, %v", said, err)
	}
}

// TestRunHung ends a machine that does not, and shows its console.
func TestRunHung(t *testing.T) {
	m := Machine{
		Image: Image{Packages: []string{"busybox-static"}},
		Cache: cache,
	}
	limited, stop := context.WithTimeout(t.Context(), 20*time.Minute)
	defer stop()
	ctx, cancel := context.WithCancelCause(limited)
	hang := wire.Job{Args: []string{"/bin/busybox", "sh", "-c", "echo on the console > /dev/console; busybox sleep 3; echo up; exec busybox sleep 1000"}}
	err := m.Run(ctx, []wire.Job{hang}, func(ev wire.Event) {
		if bytes.Contains(ev.Output, []byte("up\n")) {
			cancel(errors.New("hung"))
		}
	})
	if err == nil || !strings.Contains(err.Error(), "hung") || !strings.Contains(err.Error(), "on the console") {
		t.Errorf("Run = %v, want an error with the reason and the console", err)
	}
}
