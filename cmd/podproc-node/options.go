// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/podproc/podproc/cmd/internal/command"
)

const serveHelp = `podproc-node serve [flags]

Serves /proc files that show each reader its own container, until SIGTERM.
Prints "ready" once they can be read.

Examples:
  podproc-node serve --mount /tmp/podproc
  podproc-node serve --ctl /run/podproc/ctl              one of a node's processes
  podproc-node serve --ctl /run/podproc/ctl --standby    another one, which takes over from it
`

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

func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("podproc-node serve", flag.ContinueOnError)
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
	return f
}

// where defines the flags that say where things are on the node.
func (o *options) where(f *flag.FlagSet) {
	f.StringVar(&o.mount, "mount", "/run/podproc/fs", "mount the file system at `DIR`; podproc's own mount there is replaced")
	f.StringVar(&o.namespace, "mount-namespace", "", "mount in the mount namespace of this `FILE` (in a pod: /proc/1/ns/mnt); default the own one")
	f.StringVar(&o.ctl, "ctl", "", "`DIR` where the processes of a node meet (in a pod: /run/podproc/ctl), so that they can take over from each other; default: there is only one")
	f.StringVar(&o.proc, "proc", "/proc", "`DIR` where the node's procfs is")
}

// check refuses flags that contradict each other, or can never work.
func (o *options) check(f *flag.FlagSet) error {
	if f.NArg() > 0 {
		return command.Usagef("%s takes no arguments, but was given %q", f.Name(), f.Args())
	}
	if !path.IsAbs(o.mount) {
		return command.Usagef("--mount %q: say an absolute path", o.mount)
	}
	if o.namespace == "" && under(o.ctl, o.mount) {
		return command.Usagef("--ctl %s: that is in the file system that is served, where nobody can write; say another directory", o.ctl)
	}
	return nil
}

// checkServe is check for what only serve has.
func (o *options) checkServe(f *flag.FlagSet) error {
	if err := o.check(f); err != nil {
		return err
	}
	var err error
	f.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "standby", "silence", "grace":
			if o.ctl == "" {
				err = command.Usagef("--%s needs --ctl, where the processes of a node meet", f.Name)
			}
		}
	})
	switch {
	case err != nil:
		return err
	case o.silence <= 0:
		return command.Usagef("--silence %s: say more than 0, or leave it out", o.silence)
	case o.grace < 0:
		return command.Usagef("--grace %s: say 0 not to wait for another process, or more", o.grace)
	case o.freshness <= 0:
		return command.Usagef("--freshness %s: say more than 0, or leave it out", o.freshness)
	case o.selinuxContext != "" && (strings.Count(o.selinuxContext, ":") < 2 || strings.ContainsAny(o.selinuxContext, "\" \n")):
		return command.Usagef("--selinux-context %q: say user:role:type:level, as in system_u:object_r:container_file_t:s0", o.selinuxContext)
	}
	return nil
}

// under tells whether a path is dir or lies below it.
func under(p, dir string) bool {
	p, dir = path.Clean(p), path.Clean(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
