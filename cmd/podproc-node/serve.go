// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/cmd/internal/logging"
	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/mounts"
)

func serve(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	var o options
	f := o.flags()
	if err := command.Parse(f, args, serveHelp, stdout); err != nil {
		return err
	}
	if err := o.checkServe(f); err != nil {
		return err
	}
	log := logging.New(stderr, o.logLevel)
	if err := surroundings(&o, log); err != nil {
		return err
	}
	if o.ctl != "" {
		return share(ctx, &o, stdout, log)
	}
	return alone(ctx, &o, stdout, log)
}

// explain says what to do about what a mount failed for.
func explain(err error) error {
	if errors.Is(err, mounts.ErrContext) {
		return fmt.Errorf("%w: leave --selinux-context out where SELinux is not enabled, or give a context that the node's policy has", err)
	}
	return err
}

// alone serves without others.
func alone(ctx context.Context, o *options, stdout io.Writer, log *slog.Logger) error {
	fs, err := fusefs.New(fusefs.Config{Proc: o.proc, Sys: o.sys, Cgroup: o.cgroup, Freshness: o.freshness, Log: log})
	if err != nil {
		return err
	}
	monitor := newMonitor()
	monitor.watch(fs)
	if err := monitor.serve(ctx, o.metricsAddr, log); err != nil {
		return err
	}
	at := o.point()
	server, err := fusefs.Mount(fs, at)
	if err != nil {
		return explain(err)
	}
	if err := selfTest(ctx, fs, at); err != nil {
		_ = server.Unmount()
		return err
	}
	monitor.active.Store(true)
	monitor.setReady(nil)
	log.Info("serving", "mount", o.mount, "cgroups", fs.Mode(), "version", version)
	fmt.Fprintln(stdout, "ready")
	select {
	case <-ctx.Done():
		// Never leave a dead file to a container.
		m := &member{o: o, log: log, at: at, paths: fusefs.Paths()}
		m.release()
		return server.Unmount()
	case <-server.Done():
		return server.Err()
	}
}
