// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaces makes the machine's own root fit for new mount, PID and network
// namespaces: /proc and /sys show them, and /run is empty.
func namespaces() error {
	// /sys anew, for the network namespace, with the cgroups as they were. Before
	// the root is shared: else taking the copy away takes the cgroups with it.
	const aside = "/mnt"
	for _, step := range []struct {
		what string
		err  func() error
	}{
		{"make / private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount /proc", func() error { return unix.Mount("proc", "/proc", "proc", 0, "") }},
		{"bind cgroups", func() error { return unix.Mount("/sys/fs/cgroup", aside, "", unix.MS_BIND|unix.MS_REC, "") }},
		{"mount /sys", func() error { return unix.Mount("sysfs", "/sys", "sysfs", 0, "") }},
		{"bind cgroups back", func() error { return unix.Mount(aside, "/sys/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, "") }},
		{"take the copy away", func() error { return unix.Unmount(aside, unix.MNT_DETACH) }},
		{"share /", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }},
		{"mount /run", func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755") }},
	} {
		if err := step.err(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return os.MkdirAll("/run/lock", 0o755)
}

// prepare makes what the node needs of its system: its name, places of its own
// for what is kept, and the bridge of its pods.
func (n Node) prepare() error {
	if err := unix.Sethostname([]byte(n.Name)); err != nil {
		return err
	}
	for _, dir := range n.Own {
		own := filepath.Join(n.Dir, "own", dir)
		for _, d := range []string{own, dir} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(own, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
	}
	if err := n.network(); err != nil {
		return err
	}
	return raiseFileLimit()
}

func (n Node) network() error {
	for _, command := range n.Network {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	// Bridged packets need no iptables here; absent without br_netfilter.
	if e := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("0"), 0); !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

func raiseFileLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
