// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// container is a cgroup for memory with a limit, and all that it takes to be
// seen as a container.
type container struct {
	t   testing.TB
	dir string
}

var containers int

// newContainer makes a container of limit bytes.
func newContainer(t testing.TB, limit uint64) *container {
	t.Helper()
	containers++
	parent := "/sys/fs/cgroup/memory"
	if _, err := os.Stat(parent); err != nil {
		parent = "/sys/fs/cgroup"
		if err := os.WriteFile(parent+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			t.Fatal(err)
		}
	}
	c := &container{t, filepath.Join(parent, fmt.Sprintf("podproc-fusefs%d-%d.scope", os.Getpid(), containers))}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.remove)
	c.limit(limit)
	return c
}

// limit sets its memory limit.
func (c *container) limit(bytes uint64) {
	c.t.Helper()
	file := filepath.Join(c.dir, "memory.max")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(c.dir, "memory.limit_in_bytes")
	}
	if err := os.WriteFile(file, []byte(strconv.FormatUint(bytes, 10)), 0); err != nil {
		c.t.Fatal(err)
	}
}

func (c *container) remove() {
	deadline := time.Now().Add(time.Minute)
	for {
		err := os.Remove(c.dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Error(err)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// run runs a reader in the container; nil is the host.
func (c *container) run(t *testing.T, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, msg bytes.Buffer
	cmd := exec.Command(exe, args...)
	if c != nil {
		join := `echo $$ > "$0/cgroup.procs" && exec "$@"`
		cmd = exec.Command("sh", append([]string{"-c", join, c.dir, exe}, args...)...)
	}
	cmd.Env = append(os.Environ(), asReader+"=1")
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, &msg)
	}
	return out.String()
}
