// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Bench measures what a read costs: of the kernel's own procfs, of a constant
// file from go-fuse, of podproc-node and of Debian's LXCFS, all in one run, in
// one container, in turn, so that the ratios hold whatever else the machine
// does. It prints Markdown.
//
//	go run ./test/bench                 everything, about fifteen minutes
//	go run ./test/bench -only passing   one part of it
//
// It runs in a mount namespace of its own: neither LXCFS nor podproc is
// mounted anywhere else. bin/podproc-node has to be built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv tells a process that this program started what it is.
const roleEnv = "PODPROC_BENCH_ROLE"

var roles = map[string]func() error{"reader": reader, "constant": constant}

// asRole does what the environment asks this process to be, if anything.
func asRole() {
	if role := roles[os.Getenv(roleEnv)]; role != nil {
		exitOn(role())
		os.Exit(0)
	}
}

func main() {
	asRole()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exitOn(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// size says how much of everything is measured.
type size struct {
	rounds, reads, stale int // of latencies: rounds of reads, reads after the bound
	containers           int // that read once a second
	period               time.Duration
	passing              int // containers that come and go
}

var (
	full  = size{rounds: 20, reads: 250, stale: 40, containers: 500, period: 30 * time.Second, passing: 10000}
	short = size{rounds: 2, reads: 5, stale: 1, containers: 4, period: time.Second, passing: 20}
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "one part: latencies, many or passing")
	node := flags.String("node", "bin/podproc-node", "the podproc-node to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Getenv("PODPROC_BENCH_INSIDE") == "" {
		return inside(ctx, args, stdout, stderr)
	}
	b, err := newBench(ctx, *node, full, stdout)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.machine(); err != nil {
		return err
	}
	parts := map[string]func() error{"latencies": b.latencies, "many": b.many, "passing": b.passing}
	if part := parts[*only]; part != nil {
		return part()
	} else if *only != "" {
		return fmt.Errorf("no part %q", *only)
	}
	for _, name := range []string{"latencies", "many", "passing"} {
		if err := parts[name](); err != nil {
			return err
		}
	}
	return nil
}

// inside runs this very program in a mount namespace of its own.
func inside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "PODPROC_BENCH_INSIDE=1")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}

// bench is one run.
type bench struct {
	ctx  context.Context
	node string
	size size
	out  io.Writer
	dir  string // mounts, and empty files to bind over
}

func newBench(ctx context.Context, node string, s size, out io.Writer) (*bench, error) {
	node, err := filepath.Abs(node)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(node); err != nil {
		return nil, fmt.Errorf("%w; run make build", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // LXCFS's own place
		return nil, fmt.Errorf("mount /run: %w", err)
	}
	dir, err := os.MkdirTemp("", "podproc-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{ctx: ctx, node: node, size: s, out: out, dir: dir}
	return b, removeContainers() // of a run that was killed
}

func (b *bench) close() {
	if err := removeContainers(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.RemoveAll(b.dir)
}

func (b *bench) machine() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "Linux %s, load %s; times in µs, p50 / p99.\n", unix.ByteSliceToString(uts.Release[:]), strings.Join(strings.Fields(string(load))[:3], " "))
	return nil
}
