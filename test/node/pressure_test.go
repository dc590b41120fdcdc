// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalled is how long all of a container's tasks together have waited, in us.
func stalled(t *testing.T, text string) int {
	t.Helper()
	var a, b, c float64
	var total int
	if _, err := fmt.Sscanf(text, "some avg10=%f avg60=%f avg300=%f total=%d", &a, &b, &c, &total); err != nil {
		t.Fatalf("pressure is %q: %v", text, err)
	}
	return total
}

// TestPressure: pressure is what the kernel says of the container. Where it
// says nothing of one, on v1, reading fails; the machine's is never shown.
func TestPressure(t *testing.T) {
	names := []string{"cpu", "io", "memory"}
	if _, err := os.ReadFile("/proc/pressure/cpu"); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel counts no pressure: %v", err)
	}
	c := newContainer(t, "--cpus", "0.5", "--files", "pressure/cpu,pressure/io,pressure/memory")
	for _, name := range names {
		path := "/proc/pressure/" + name
		if !unified() {
			if a, err := c.try(request{Read: path}); err == nil || !strings.Contains(err.Error(), "operation not supported") {
				t.Errorf("%s on cgroup v1: %q, %v", path, a.Out, err)
			}
			continue
		}
		text := c.read(path)
		if len(text)%80 != 0 {
			t.Errorf("%s has %d bytes", path, len(text))
		}
	}
	if !unified() {
		return
	}
	// Two loops in half a CPU wait for the other half.
	stop := c.burn(2)
	defer stop()
	kernels := func() int { return stalled(t, c.file("cpu", "cpu.pressure")) }
	eventually(t, "pressure", func() bool { return kernels() > 100_000 })
	least := kernels()
	eventually(t, "what the kernel says", func() bool {
		time.Sleep(freshness)
		got := stalled(t, c.read("/proc/pressure/cpu"))
		if most := kernels(); got > most {
			t.Errorf("total is %d, the kernel's %d", got, most)
		}
		return got >= least
	})
}
