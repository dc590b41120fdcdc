// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// initialCgroupNamespace is the inode of the first cgroup namespace, a
// constant of the kernel (PROC_CGROUP_INIT_INO).
const initialCgroupNamespace = "cgroup:[4026531835]"

// reexecuted tells a process that has already left its cgroup namespace.
const reexecuted = "PODPROC_REEXECUTED"

// surroundings makes sure that this process is where it can do its job. Each
// error is one line that says what to do. It may execute the program anew, in
// the node's cgroup namespace.
func surroundings(o *options, log *slog.Logger) error {
	if os.Geteuid() != 0 {
		return errors.New("not root: podproc-node mounts a file system; run it as root")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("/dev/fuse cannot be used (%w): load the kernel's fuse module, and run podproc-node privileged", err)
	}
	if _, err := os.Stat(o.proc + "/self/cgroup"); err != nil {
		return fmt.Errorf("no procfs at %s (%w): say where it is with --proc", o.proc, err)
	}
	if entries, err := os.ReadDir(o.cgroup); err != nil || len(entries) == 0 {
		return fmt.Errorf("no cgroup hierarchy at %s: say where cgroupfs is mounted with --cgroup (in a pod: /proc/1/root/sys/fs/cgroup)", o.cgroup)
	}
	if _, err := os.Stat(o.sys + "/devices/system/cpu/online"); err != nil {
		return fmt.Errorf("no sysfs at %s (%w): say where it is with --sys", o.sys, err)
	}
	if o.namespace != "" {
		if _, err := os.Stat(o.namespace); err != nil {
			return fmt.Errorf("no mount namespace to mount in (%w): say its file with --mount-namespace (in a pod: /proc/1/ns/mnt, with hostPID)", err)
		}
	}
	return cgroupNamespace(o, log)
}

// cgroupNamespace makes sure that /proc/PID/cgroup shows real paths. In
// another namespace than the node's they would start with "/..".
func cgroupNamespace(o *options, log *slog.Logger) error {
	own, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		return fmt.Errorf("read own cgroup namespace: %w", err)
	}
	if own == initialCgroupNamespace {
		return nil
	}
	const node = "/proc/1/ns/cgroup"
	theirs, err := os.Readlink(node)
	switch {
	case err == nil && own == theirs:
		return nil // the node is a container itself, as with kind
	case o.ownCgroupNamespace:
		log.Warn("cgroup namespace is not the initial one, accepted as told", "namespace", own)
		return nil
	case err != nil:
		return fmt.Errorf("this is not the initial cgroup namespace, and whether it is the node's cannot be read (%w): run podproc-node in the node's (in a pod: privileged, hostPID), or accept this one with --own-cgroup-namespace", err)
	case os.Getenv(reexecuted) != "":
		return fmt.Errorf("cgroup namespace %s cannot be left for the node's %s: run podproc-node in the node's", own, theirs)
	}
	// setns changes this thread only; after execve there is no other.
	ns, err := os.Open(node)
	if err != nil {
		return fmt.Errorf("open the node's cgroup namespace: %w", err)
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter the node's cgroup namespace: %w: run podproc-node privileged", err)
	}
	log.Info("entered the node's cgroup namespace", "from", own, "to", theirs)
	err = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), reexecuted+"=1"))
	return fmt.Errorf("execute podproc-node again in the node's cgroup namespace: %w", err)
}
