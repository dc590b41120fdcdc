// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Store is containerd's directory with images in it, made here since a virtual
// machine without KVM takes a minute to unpack them.
type Store struct {
	Root   string // becomes /var/lib/containerd
	Images []string
}

const storeConfig = `version = 2
root = "%s"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
`

// make runs in a mount namespace of its own: containerd's sockets go to a /run
// that nobody else sees.
func (s Store) make() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	config := filepath.Join("/run", "store.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, storeConfig, s.Root), 0o600); err != nil {
		return err
	}
	containerd := exec.Command("containerd", "--config", config)
	containerd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := containerd.Start(); err != nil {
		return err
	}
	err := wait("containerd", 5*time.Minute, "ctr", "version")
	for _, image := range s.Images {
		if err != nil {
			break
		}
		var out []byte
		if out, err = exec.Command("ctr", "-n", "k8s.io", "images", "import", image).CombinedOutput(); err != nil {
			err = fmt.Errorf("import %s: %w: %s", image, err, out)
		}
	}
	err = errors.Join(err, containerd.Process.Signal(syscall.SIGTERM))
	_ = containerd.Wait()
	return err
}
