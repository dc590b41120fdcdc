// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Podproc is podproc without a cluster: it runs a command as a container that
// sees itself in /proc, tells what podproc needs of a machine, and injects
// manifests offline. See "podproc --help".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// version is set by the linker.
var version = "dev"

const usage = `podproc gives a container a /proc that shows the container's own limits and usage.

  podproc run [flags] -- CMD [ARG...]   run a command with its own limits and /proc
  podproc check                         what podproc needs of this machine, and whether it is there
  podproc inject [flags] -f FILE        inject manifests offline, as the webhook would
  podproc COMMAND --help                flags and examples of a command
  podproc --version

Examples:
  podproc run --memory 256Mi --cpus 1 -- free -m
  podproc check
  podproc inject --explain -f deployment.yaml

Exit status 2: wrong usage. What "run" exits with: see podproc run --help.
`

// command is a subcommand. Its error is printed by main; a usageError makes
// it exit with status 2, an exitStatus with that.
type command func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error

var commands = map[string]command{
	"run":    runCommand,
	"check":  check,
	"inject": runInject,
	"trial":  trial, // of check itself
}

// stages are the processes that "podproc run" makes of its own program, by
// their argv[0]: no user calls them.
var stages = map[string]func(args []string) error{
	initName:  initStage,
	enterName: enterStage,
	reapName:  reapStage,
}

// The main goroutine keeps the first thread: the parent death signal of a
// child comes when the thread that made it ends.
func init() { runtime.LockOSThread() }

func main() {
	if stage, ok := stages[filepath.Base(os.Args[0])]; ok {
		exit(stage(os.Args[1:]), "podproc run")
	}
	exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr), "podproc")
}

// exit ends the process as err says.
func exit(err error, name string) {
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	var failure exitError
	code := 1
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.As(err, new(usageError)):
		code = 2
	case errors.As(err, &failure):
		code = failure.code
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return usagef("no command given; see podproc --help")
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return nil
	case "-version", "--version", "version":
		fmt.Fprintln(stdout, "podproc", version)
		return nil
	}
	c, ok := commands[args[0]]
	if !ok {
		return usagef("unknown command %q; see podproc --help", args[0])
	}
	return c(ctx, args[1:], stdin, stdout, stderr)
}

// usageError is a mistake of the caller; it says what to do.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// exitError is a failure with an exit status of its own.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

// exitStatus is a command's own, to be passed on without a word.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// parse parses flags; help goes to stdout, mistakes are usage errors.
func parse(f *flag.FlagSet, args []string, help string, stdout io.Writer) error {
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help, "\nFlags:\n")
		f.SetOutput(stdout)
		f.PrintDefaults()
		return err
	case err != nil:
		return usagef("%w; see podproc %s --help", err, f.Name())
	}
	return nil
}
