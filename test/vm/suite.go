// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/podproc/podproc/test/variant"
	"github.com/podproc/podproc/test/vm/machine"
	"github.com/podproc/podproc/test/vm/wire"
)

// tested are the packages whose tests ask something of a kernel.
var tested = []string{"./fusefs", "./fusefs/cgroup", "./fusefs/device", "./fusefs/mounts", "./fusefs/takeover", "./test/node"}

// asking are the tests of these that do, and pure those that do not, where there
// are enough of the others to matter: they say the same on every kernel.
var (
	asking = map[string]string{"fusefs/cgroup": "^TestKernel"}
	pure   = map[string]string{"fusefs": "^TestMachines"}
)

// programs are podproc's, at /payload/bin.
var programs = []string{"podproc", "podproc-node"}

// suite is a number of packages whose tests are compiled here and run there.
type suite struct {
	root    string
	short   bool
	soak    bool // the long forms
	run     string
	verbose bool
	limit   time.Duration
}

// test prints what go test would.
func (s suite) test(ctx context.Context, m machine.Machine, packages []string, stdout io.Writer) error {
	if len(packages) == 0 {
		packages = tested
	}
	binaries, err := os.MkdirTemp("", "podproc-tests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(binaries)
	if err := s.programs(ctx, binaries, m.Payload); err != nil {
		return err
	}
	dirs, err := s.compile(ctx, packages, binaries, m.Payload)
	if err != nil {
		return err
	}
	var jobs []wire.Job
	for _, dir := range dirs {
		jobs = append(jobs, s.job(dir))
	}
	outputs := make([]bytes.Buffer, len(jobs))
	failed := 0
	err = m.Run(ctx, jobs, func(ev wire.Event) {
		outputs[ev.Job].Write(ev.Output)
		if !ev.Done {
			return
		}
		if ev.Exit != 0 {
			failed++
		}
		s.report(stdout, dirs[ev.Job], ev, outputs[ev.Job].Bytes())
	})
	if err != nil {
		for i := range outputs { // what was said by those that did not end
			if !bytes.HasSuffix(outputs[i].Bytes(), []byte("PASS\n")) {
				fmt.Fprintf(stdout, "--- %s\n%s", dirs[i], outputs[i].Bytes())
			}
		}
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d packages failed in the virtual machine", failed, len(jobs))
	}
	return nil
}

// programs builds what the tests start, and adds it to the payload: there is no
// compiler in the machine.
func (s suite) programs(ctx context.Context, dir string, payload map[string]string) error {
	args := []string{"build", "-ldflags", "-s -w", "-o", dir + "/"}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	if err := s.goCommand(ctx, args...); err != nil {
		return fmt.Errorf("build %s: %w", programs, err)
	}
	for _, name := range variant.All {
		if err := variant.Build(ctx, s.root, name, dir); err != nil {
			return err
		}
	}
	for _, name := range append(variant.All, programs...) {
		payload["bin/"+name] = filepath.Join(dir, name)
	}
	return nil
}

// goCommand runs go in the repository, for static binaries.
func (s suite) goCommand(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// compile builds the test binary of each package and adds it to the payload,
// which has the repository's layout as far as tests see it: testdata beside each.
func (s suite) compile(ctx context.Context, packages []string, binaries string, payload map[string]string) ([]string, error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-f", "{{.Dir}}"}, packages...)...)
	list.Dir = s.root
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var dirs []string
	for line := range strings.Lines(string(out)) {
		dir, err := filepath.Rel(s.root, strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		binary := filepath.Join(binaries, dir, "test")
		if err := s.goCommand(ctx, "test", "-c", "-ldflags", "-s -w", "-o", binary, "./"+dir); err != nil {
			return nil, fmt.Errorf("compile the tests of %s: %w", dir, err)
		}
		if !exists(binary) {
			return nil, fmt.Errorf("%s has no tests", dir)
		}
		payload[filepath.Join(dir, "test")] = binary
		if testdata := filepath.Join(s.root, dir, "testdata"); exists(testdata) {
			payload[filepath.Join(dir, "testdata")] = testdata
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func (s suite) job(dir string) wire.Job {
	place := filepath.Join(wire.Payload, dir)
	args := []string{filepath.Join(place, "test"), "-test.v", "-test.timeout", s.limit.String()}
	if s.short {
		args = append(args, "-test.short")
	}
	run, skip := s.run, ""
	if run == "" && s.short {
		run, skip = asking[dir], pure[dir]
	}
	args = append(args, "-test.run", run, "-test.skip", skip)
	env := []string{"PODPROC_BIN=" + wire.Payload + "/bin"}
	if s.soak {
		env = append(env, "PODPROC_SOAK=1")
	}
	return wire.Job{Dir: place, Args: args, Env: env, Limit: s.limit - s.limit/5}
}

var skipped = regexp.MustCompile(`(?m)(?:^\s+\S+\.go:\d+: .*\n)*^\s*--- SKIP.*\n`)

// report prints one line for a package that passed, with what it skipped and
// why, and everything for one that failed.
func (s suite) report(w io.Writer, dir string, ev wire.Event, output []byte) {
	result := "ok  "
	if ev.Exit != 0 {
		result = "FAIL"
	}
	if ev.Exit != 0 || s.verbose {
		w.Write(output)
	} else {
		for _, text := range skipped.FindAll(output, -1) {
			w.Write(text)
		}
	}
	fmt.Fprintf(w, "%s\tgithub.com/podproc/podproc/%s\t%.3fs\t(in the VM)\n", result, dir, ev.Took.Seconds())
}
