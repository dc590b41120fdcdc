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

	"github.com/podproc/podproc/cmd/internal/logging"
	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/mounts"
)

// options are the flags of serve.
type options struct {
	mount, namespace   string
	selinuxContext     string
	ctl                string
	standby            bool
	grace, silence     time.Duration
	proc, sys, cgroup  string
	ownCgroupNamespace bool
	freshness          time.Duration
	metricsAddr        string
	logLevel           slog.Level
}

func (o *options) flags(stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	f.SetOutput(stderr)
	o.where(f)
	f.BoolVar(&o.standby, "standby", false, "serve only when the process that serves is gone (with --ctl)")
	f.DurationVar(&o.silence, "silence", time.Second, "how long the process that serves may give no sign of life before another one of --ctl kills it and serves")
	f.DurationVar(&o.grace, "grace", 25*time.Second, "how long the last process of --ctl waits for another one, when it is to end, before it gives the containers the kernel's files; less than terminationGracePeriodSeconds")
	f.StringVar(&o.selinuxContext, "selinux-context", "", "SELinux `CONTEXT` of all files of what is mounted from then on, as in system_u:object_r:container_file_t:s0, for nodes whose policy lets containers read no FUSE file system; default: as the policy says")
	f.StringVar(&o.sys, "sys", "/sys", "`DIR` where sysfs is")
	f.StringVar(&o.cgroup, "cgroup", "/sys/fs/cgroup", "`DIR` where the node's cgroup hierarchies are mounted (in a pod: /proc/1/root/sys/fs/cgroup)")
	f.BoolVar(&o.ownCgroupNamespace, "own-cgroup-namespace", false, "take the own cgroup namespace for the node's, where that cannot be told")
	f.DurationVar(&o.freshness, "freshness", 100*time.Millisecond, "how old what a reader sees may be")
	f.StringVar(&o.metricsAddr, "metrics-addr", "", "serve /metrics, /readyz and /healthz on `ADDR`, as in :9118; default: nowhere")
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "log messages from `LEVEL` on: debug, info, warn, error")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "podproc-node serve [flags]\n\nServes /proc files that show each reader its own container, until SIGTERM.\nPrints \"ready\" once they can be read.")
		f.PrintDefaults()
	}
	return f
}

// where defines the flags that say where things are on the node.
func (o *options) where(f *flag.FlagSet) {
	f.StringVar(&o.mount, "mount", "/run/podproc/fs", "mount the file system at `DIR`; podproc's own mount there is replaced")
	f.StringVar(&o.namespace, "mount-namespace", "", "mount in the mount namespace of this `FILE` (in a pod: /proc/1/ns/mnt); default the own one")
	f.StringVar(&o.ctl, "ctl", "", "`DIR` where the processes of a node meet (in a pod: /run/podproc/ctl), so that they can take over from each other; default: there is only one")
	f.StringVar(&o.proc, "proc", "/proc", "`DIR` where the node's procfs is")
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	f := o.flags(stderr)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("serve takes no arguments, but was given %q", f.Args())
	}
	log := logging.New(stderr, o.logLevel)
	if o.standby && o.ctl == "" {
		return errors.New("--standby needs --ctl, where the process that serves can be met")
	}
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
