// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Podproc-node serves the /proc files of a node's containers. It is the
// privileged process of podproc's DaemonSets; on one machine, "podproc run"
// does without it. See "podproc-node --help".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// version is set by the linker.
var version = "dev"

const usage = `podproc-node serves /proc files that show each container its own limits and usage.

  podproc-node serve [--mount DIR] [flags]   serve the files of this node
  podproc-node release [flags]               give running containers the kernel's files back
  podproc-node COMMAND --help                the flags of a command
  podproc-node --version

Examples:
  podproc-node serve --mount /tmp/podproc    in the foreground, until SIGTERM
  cat /tmp/podproc/proc/meminfo              the caller's own view
  mount --bind /tmp/podproc/proc/meminfo /proc/meminfo   in a container's mount namespace
`

// commands is what podproc-node can do.
var commands = map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) error{
	"serve":   serve,
	"release": release,
	"probe":   probe, // of serve itself: see probe.go
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "podproc-node:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errors.New("no command given; the usual one is serve")
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return nil
	case "-version", "--version", "version":
		fmt.Fprintln(stdout, "podproc-node", version)
		return nil
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q; see podproc-node --help", args[0])
	}
	return command(ctx, args[1:], stdout, stderr)
}
