// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// diskLine is the line of /proc/diskstats for a disk, in numbers after its
// name; nil if there is none.
func diskLine(t *testing.T, text, disk string) (numbers []int) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != disk {
			continue
		}
		for _, s := range f[3:] {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatalf("diskstats has the line %q", line)
			}
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// diskOf names the disk that a directory is on, and its device number.
func diskOf(t *testing.T, dir string) (name, number string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil && absent("disk") {
		t.Skip("PODPROC_ABSENT says that there is no disk here")
	}
	if err != nil {
		t.Fatalf("%s is on no disk (%v): say in TMPDIR what is, or name it in PODPROC_ABSENT", dir, err)
	}
	if exists(path + "/partition") {
		path = filepath.Dir(path)
	}
	return filepath.Base(path), strings.TrimSpace(read(t, path+"/dev"))
}

// TestDiskstats: a container sees what it has written past the page cache, on
// the disk that it went to, and nothing of the machine's.
func TestDiskstats(t *testing.T) {
	need(t, "dd")
	disk, number := diskOf(t, scratch)
	c := newContainer(t, "--files", "default,diskstats")
	idle := newContainer(t, "--files", "default,diskstats")
	if !unified() {
		// Newer kernels count on v1 only where there is a limit.
		rule := c.cgroup["blkio"] + "/blkio.throttle.write_bps_device"
		if !exists(c.cgroup["blkio"] + "/blkio.throttle.io_service_bytes_recursive") {
			t.Skip("this kernel does not count on cgroup v1")
		}
		write(t, rule, number+" 1099511627776")
	}
	file := scratch + "/diskstats"
	defer os.Remove(file)
	const size = 4 << 20
	c.sh("dd if=/dev/zero of=" + file + " bs=1M count=4 oflag=direct 2>/dev/null")
	var text string
	var got []int
	eventually(t, "the disk in diskstats", func() bool {
		text = c.read("/proc/diskstats")
		got = diskLine(t, text, disk)
		return len(got) > 6 && got[6]*512 >= size
	})
	machine := diskLine(t, read(t, "/proc/diskstats"), disk)
	if len(got) != len(machine) || got[4] == 0 || got[6] > machine[6] || got[6]*512 > 8*size {
		t.Errorf("%d bytes were written; diskstats says %q, the machine's %v", size, text, machine)
	}
	if len(text)%256 != 0 {
		t.Errorf("diskstats has %d bytes", len(text))
	}
	if line := diskLine(t, idle.read("/proc/diskstats"), disk); len(line) > 6 && line[6] > 0 {
		t.Errorf("a container that has written nothing sees %v", line)
	}
}
