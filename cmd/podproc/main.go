// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Podproc is podproc without a cluster: it runs a command as a container that
// sees itself in /proc, tells what podproc needs of a machine, and injects
// manifests offline. See "podproc --help".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/podproc/podproc/cmd/internal/command"
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

var program = command.Program{Name: "podproc", Version: version, Usage: usage, Commands: map[string]command.Func{
	"run":    runCommand,
	"check":  check,
	"inject": runInject,
	"trial":  trial, // of check itself
}}

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
	exit(program.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr), "podproc")
}

// exit ends the process as err says.
func exit(err error, name string) {
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	var failure exitError
	code := command.Status(err)
	if code == 0 {
		os.Exit(0)
	}
	if errors.As(err, &failure) {
		code = failure.code
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	os.Exit(code)
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
