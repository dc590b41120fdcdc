// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/podproc/podproc/cmd/internal/command"
)

const checkHelp = `podproc check

Tells what podproc needs of this machine, a line each:

  ok    it is there
  note  something is less than it could be; the line says what, and what to do
  FAIL  podproc cannot work like this; the line says what to do

The last line is a trial: a container of 64 MiB and one CPU is asked what it
sees. Run it as root on the node itself, or in a pod as podproc's DaemonSet is.

Examples:
  podproc check
  podproc check --no-trial
  podproc check || echo "not ready for podproc"

Exit status: 0 without a FAIL, else 1.
`

// state is how well a need is met.
type state string

const (
	ok   state = "ok"
	note state = "note"
	fail state = "FAIL"
)

// finding is what was found of one need.
type finding struct {
	state state
	what  string // what is there
	do    string // what to do about it, if anything
}

// machine is where the kernel's trees are.
type machine struct{ proc, sys, dev string }

// needs is the table of what is looked at.
var needs = []struct {
	name string
	look func(machine) finding
}{
	{"root", root},
	{"kernel", kernel},
	{"cgroups", cgroupMode},
	{"controllers", cgroupControllers},
	{"cgroup namespace", cgroupNamespace},
	{"pid namespace", pidNamespace},
	{"FUSE", fuse},
	{"namespaces", namespaces},
	{"swap accounting", swapAccounting},
	{"PSI", psi},
	{"SELinux", selinux},
	{"AppArmor", apparmor},
}

func check(ctx context.Context, args []string, _ io.Reader, stdout, _ io.Writer) error {
	f := flag.NewFlagSet("podproc check", flag.ContinueOnError)
	noTrial := f.Bool("no-trial", false, "only look, start no container")
	if err := command.Parse(f, args, checkHelp, stdout); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return command.Usagef("check takes no arguments, but was given %q", f.Args())
	}
	m := machine{proc: "/proc", sys: "/sys", dev: "/dev"}
	failed := false
	for _, n := range needs {
		failed = report(stdout, n.name, n.look(m)) || failed
	}
	if !*noTrial && !failed {
		failed = report(stdout, "trial", tryOut(ctx))
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

func report(w io.Writer, name string, f finding) (failed bool) {
	line := fmt.Sprintf("%-5s %-17s %s", f.state, name, f.what)
	if f.do != "" {
		line += ": " + f.do
	}
	fmt.Fprintln(w, line)
	return f.state == fail
}

// tryOut makes a container and compares what it sees with its limit.
func tryOut(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "run", "--memory", "64Mi", "--cpus", "1", "--", "/proc/self/exe", "trial")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	got := strings.Join(strings.Fields(string(out)), " ")
	switch want := "MemTotal: 65536 kB, CPUs: 1"; {
	case err != nil:
		return finding{fail, "a container of 64 MiB could not be made", strings.TrimSpace(stderr.String())}
	case got != want:
		return finding{fail, fmt.Sprintf("a container sees %q instead of %q", got, want), "please report this, with the lines above"}
	}
	return finding{ok, "a container of 64 MiB and one CPU sees just that", ""}
}

// trial runs inside of tryOut's container.
func trial(_ context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) error {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(meminfo), "\n")
	_, err = fmt.Fprintf(stdout, "%s, CPUs: %d\n", first, countCPUs(string(cpuinfo)))
	return err
}

func countCPUs(cpuinfo string) (n int) {
	for line := range strings.Lines(cpuinfo) {
		if strings.HasPrefix(line, "processor") {
			n++
		}
	}
	return n
}
