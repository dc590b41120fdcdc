// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/takeover"
)

// releaseTimeout is for nodes with many containers, on a bad day.
const releaseTimeout = 5 * time.Minute

// release takes podproc out of all running containers of a node, so that they
// see the kernel's own files, and unmounts its file system. The process that
// serves does it, if there is one: then no read fails.
const releaseHelp = `podproc-node release [flags]

Gives running containers the kernel's own files back and unmounts podproc's.
Pods that name a file of podproc's can still be started until the node boots.
`

func release(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	var o options
	f := flag.NewFlagSet("podproc-node release", flag.ContinueOnError)
	o.where(f)
	stay := f.Bool("stay", false, "wait for SIGTERM when done (for a DaemonSet, whose containers may not end)")
	if err := command.Parse(f, args, releaseHelp, stdout); err != nil {
		return err
	}
	if err := o.check(f); err != nil {
		return err
	}
	m := &member{o: &o, log: slog.New(slog.NewTextHandler(stderr, nil)), at: o.point(), paths: fusefs.Paths()}
	var r released
	err := takeover.ErrNobody
	if o.ctl != "" {
		node, err2 := takeover.Open(takeover.Config{Dir: o.ctl})
		if err2 != nil {
			return err2
		}
		defer node.Close()
		err = node.Release(releaseTimeout, &r)
	}
	if errors.Is(err, takeover.ErrNobody) {
		r, err = m.release().(released), nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "detached %d mounts\n", r.Detached)
	switch {
	case r.Error != "":
		return errors.New(r.Error)
	case r.Failed > 0:
		return fmt.Errorf("%d mounts are left, see the log: restart their pods", r.Failed)
	}
	if *stay {
		<-ctx.Done()
		return nil
	}
	return ctx.Err()
}
