// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Vm runs things in a virtual machine with Debian's kernel and cgroup v2 (or,
// with -cgroup, v1 or both).
//
//	go run ./test/vm -- free -m        one command
//	go run ./test/vm -shell            a shell; `exit` ends the machine
//	go run ./test/vm -test [PKG...]    compiled tests, by default those of suite.go
//
// Programs come from the Debian packages that test/packages.txt marks with "vm".
// This repository's bin/ is at /payload/bin and in the PATH of one command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/vm/machine"
	"github.com/podproc/podproc/test/vm/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	var exit exitStatus
	if errors.As(err, &exit) {
		os.Exit(int(exit))
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

// exitStatus is a command's own, to be passed on.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		test    = flags.Bool("test", false, "run the tests of the packages named")
		shell   = flags.Bool("shell", false, "a shell on this terminal")
		short   = flags.Bool("short", true, "with -test: the short forms, unless PODPROC_SOAK=1 asks for the long ones")
		match   = flags.String("run", "", "with -test: only tests that match")
		verbose = flags.Bool("v", false, "with -test: print all they say")
		mode    = flags.String("cgroup", wire.V2, "or v1, or hybrid")
		limit   = flags.Duration("timeout", 20*time.Minute, "end a hung machine after this")
	)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	m, err := standard(root)
	if err != nil {
		return err
	}
	m.Cgroup = *mode
	for _, name := range programs {
		if path := filepath.Join(root, "bin", name); exists(path) {
			m.Payload["bin/"+name] = path
		}
	}
	if *shell {
		return m.Shell(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("hung for %v", *limit))
	defer cancel()
	if *test {
		soak := os.Getenv("PODPROC_SOAK") != ""
		s := suite{root: root, short: *short && !soak, soak: soak, run: *match, verbose: *verbose, limit: *limit}
		return s.test(ctx, m, flags.Args(), stdout)
	}
	if flags.NArg() == 0 {
		return errors.New("nothing to run; see -help")
	}
	return one(ctx, m, flags.Args(), stdout)
}

// one runs one command and passes on its output and exit status.
func one(ctx context.Context, m machine.Machine, args []string, stdout io.Writer) error {
	exit := 0
	job := wire.Job{Dir: wire.Payload, Args: []string{"/bin/bash", "-c", `PATH=/payload/bin:$PATH; exec "$@"`, "-"}}
	job.Args = append(job.Args, args...)
	err := m.Run(ctx, []wire.Job{job}, func(ev wire.Event) {
		_, _ = stdout.Write(ev.Output)
		exit += ev.Exit
	})
	if err == nil && exit != 0 {
		return exitStatus(exit)
	}
	return err
}

// standard is the machine that this repository's tests run in.
func standard(root string) (machine.Machine, error) {
	packages, err := packagesFor(filepath.Join(root, "test", "packages.txt"))
	return machine.Machine{
		Image:   machine.Image{Packages: packages},
		Cache:   filepath.Join(root, ".cache", "vm"),
		Payload: make(map[string]string),
		Swap:    512 << 20,
	}, err
}

// packagesFor lists the packages that the file marks with "# vm".
func packagesFor(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var packages []string
	for line := range strings.Lines(string(text)) {
		name, comment, _ := strings.Cut(line, "#")
		words := strings.Fields(strings.ReplaceAll(comment, ":", " "))
		if name = strings.TrimSpace(name); name != "" && len(words) > 0 && words[0] == "vm" {
			packages = append(packages, name)
		}
	}
	return packages, nil
}

// moduleRoot is the first directory upwards with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if exists(filepath.Join(d, "go.mod")) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
