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

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/takeover"
)

// releaseTimeout is for nodes with many containers, on a bad day.
const releaseTimeout = 5 * time.Minute

// release takes podproc out of all running containers of a node, so that they
// see the kernel's own files, and unmounts its file system. The process that
// serves does it, if there is one: then no read fails.
func release(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	f.SetOutput(stderr)
	o.where(f)
	stay := f.Bool("stay", false, "wait for SIGTERM when done (for a DaemonSet, whose containers may not end)")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "podproc-node release [flags]\n\nGives running containers the kernel's own files back and unmounts podproc's.\nPods that name a file of podproc's can still be started until the node boots.")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("release takes no arguments, but was given %q", f.Args())
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
