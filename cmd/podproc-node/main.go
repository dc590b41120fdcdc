// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Podproc-node serves the /proc files of a node's containers. It is the
// privileged process of podproc's DaemonSets; on one machine, "podproc run"
// does without it. See "podproc-node --help".
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/cmd/internal/command"
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

Exit status: 0 after a signal or when the file system was unmounted; 2 for wrong usage; else 1.
`

var program = command.Program{Name: "podproc-node", Version: version, Usage: usage, Usual: "serve", Commands: map[string]command.Func{
	"serve":   serve,
	"release": release,
	"probe":   probe, // of serve itself: see probe.go
}}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	// Who has executed itself anew is "exe" to ps and pgrep.
	_ = os.WriteFile("/proc/self/comm", []byte(program.Name), 0)
	err := program.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	status := command.Status(err)
	if status != 0 {
		fmt.Fprintln(os.Stderr, "podproc-node:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	os.Exit(status)
}
