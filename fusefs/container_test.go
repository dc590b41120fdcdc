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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// container is a cgroup for memory with a limit, and all that it takes to be
// seen as a container.
type container struct {
	t    testing.TB
	dir  string
	cpu  string   // where CPUs are limited; the same as dir on cgroup v2
	dirs []string // all of its cgroups
}

var containers int

// newContainer makes a container of limit bytes.
func newContainer(t testing.TB, limit uint64) *container {
	t.Helper()
	containers++
	const root = "/sys/fs/cgroup"
	name := fmt.Sprintf("podproc-fusefs%d-%d.scope", os.Getpid(), containers)
	c := &container{t: t}
	for _, controller := range []string{"memory", "cpu", "cpuacct"} {
		// Those that are mounted together have links to where they are.
		dir, err := filepath.EvalSymlinks(filepath.Join(root, controller))
		if dir = filepath.Join(dir, name); err == nil && !slices.Contains(c.dirs, dir) {
			c.dirs = append(c.dirs, dir)
		}
	}
	if len(c.dirs) == 0 {
		c.dirs = []string{filepath.Join(root, name)}
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory +cpu"), 0); err != nil {
			t.Fatal(err)
		}
	}
	c.dir, c.cpu = c.dirs[0], c.dirs[min(1, len(c.dirs)-1)]
	for _, dir := range c.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.remove)
	c.limit(limit)
	return c
}

// oneCPU limits it to that.
func (c *container) oneCPU() {
	c.t.Helper()
	const period = "100000"
	file, value := "cpu.max", period+" "+period
	if c.cpu != c.dir {
		file, value = "cpu.cfs_quota_us", period // of the period by default
	}
	if err := os.WriteFile(filepath.Join(c.cpu, file), []byte(value), 0); err != nil {
		c.t.Fatal(err)
	}
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
	for _, dir := range c.dirs {
		c.removeDir(dir, deadline)
	}
}

func (c *container) removeDir(dir string, deadline time.Time) {
	for {
		err := os.Remove(dir)
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
		join := `for dir in $0; do echo $$ > "$dir/cgroup.procs" || exit; done; exec "$@"`
		cmd = exec.Command("sh", append([]string{"-c", join, strings.Join(c.dirs, " "), exe}, args...)...)
	}
	cmd.Env = append(os.Environ(), asReader+"=1")
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, &msg)
	}
	return out.String()
}
