// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/view"
)

const (
	serviceBytesText = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 512\n8:0 Total 12800\nTotal 12800\n"
	servicedText     = "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 0\n8:0 Discard 1\n8:0 Total 4\nTotal 4\n"
)

func TestDisks(t *testing.T) {
	v2 := func(text string) files {
		return union(v2Root, in("cgroup/"+hexA, v2Cgroup("", "0", "")), process100("0::/"+hexA+"\n"), files{"cgroup/" + hexA + "/io.stat": text})
	}
	v1 := func(bytes, serviced string) files {
		return union(in("cgroup/memory", v1Memory("", "0", "", "")), in("cgroup/memory/"+hexA, v1Memory("", "0", "", "")),
			in("cgroup/blkio", files{"cgroup.procs": ""}), process100("1:memory:/"+hexA+"\n2:blkio:/"+hexA+"\n"),
			in("cgroup/blkio/"+hexA, files{"cgroup.procs": "", "blkio.throttle.io_service_bytes_recursive": bytes, "blkio.throttle.io_serviced_recursive": serviced}))
	}
	noDisks := []view.Disk{}
	one := []view.Disk{{Major: 8, Reads: 1, Writes: 2, Discards: 1, ReadBytes: 4096, WriteBytes: 8192, DiscardBytes: 512}}
	for _, tt := range []struct {
		name string
		tree files
		want []view.Disk // nil: an error
	}{
		{"v2", v2("8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=512 dios=1\n"), one},
		{"v2, nothing read yet", v2(""), noDisks},
		{"v2, other keys", v2("8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=512 dios=1 cost.vrate=100.00 cost.usage=7\n"), one},
		{"v2, before 4.19", v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n"), []view.Disk{{Major: 8, Reads: 3, Writes: 4, ReadBytes: 1, WriteBytes: 2}}},
		{"v2, newlines left out", v2("7:0 7:1 8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=512 dios=1\n"), append([]view.Disk{{Major: 7}, {Major: 7, Minor: 1}}, one...)},
		{"v2, cut off", v2("8:0 rbytes=4096 wby"), nil},
		{"v2, no device", v2("rbytes=4096\n"), nil},
		{"v2, not a number", v2("8:0 rbytes=x\n"), nil},
		{"v2, not a pair", v2("8:0 rbytes\n"), nil},
		{"v1", v1(serviceBytesText, servicedText), one},
		{"v1, nothing read yet", v1("Total 0\n", "Total 0\n"), noDisks},
		{"v1, cut off", v1(serviceBytesText, strings.TrimSuffix(servicedText, "Total 4\n")), nil},
		{"v1, more than the total", v1(serviceBytesText+"x\n", servicedText), nil},
		{"v1, not a device", v1("8 Read 1\nTotal 1\n", servicedText), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t, tt.tree)
			v := view.Disks{Disks: []view.Disk{{Major: 99}}}
			err := tr.container(tr.open(nil)).Disks(&v)
			if (err != nil) != (tt.want == nil) || errors.Is(err, ErrNotCounted) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, v.Disks); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDisksNotCounted(t *testing.T) {
	v2 := union(v2Root, in("cgroup/"+hexA, v2Cgroup("", "0", "")), process100("0::/"+hexA+"\n"), files{"cgroup/cgroup.subtree_control": "memory cpu\n"})
	v1 := union(in("cgroup/memory", v1Memory("", "0", "", "")), in("cgroup/memory/"+hexA, v1Memory("", "0", "", "")), in("cgroup/blkio", files{"cgroup.procs": ""}))
	for name, tree := range map[string]files{
		"v2, controller not enabled":         v2,
		"v1, in no blkio cgroup":             union(v1, process100("1:memory:/"+hexA+"\n2:blkio:/\n")),
		"v1, no blkio":                       union(v1, process100("1:memory:/"+hexA+"\n")),
		"v1, kernel without recursive files": union(v1, in("cgroup/blkio/"+hexA, files{"cgroup.procs": ""}), process100("1:memory:/"+hexA+"\n2:blkio:/"+hexA+"\n")),
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, tree)
			var v view.Disks
			if err := tr.container(tr.open(nil)).Disks(&v); !errors.Is(err, ErrNotCounted) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// TestKernelDisks: a child writes past the page cache, and the kernel's counts
// of it are read.
func TestKernelDisks(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	if g.v2 != nil { // whose library enables only what has a limit
		for _, dir := range []string{"", testRoot} {
			if err := os.WriteFile("/sys/fs/cgroup"+dir+"/cgroup.subtree_control", []byte("+io"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, c := g.openWaiting(fs)
	var v view.Disks
	if err := c.Disks(&v); err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Disks {
		if d.Used() {
			t.Errorf("%+v before anything was written", d)
		}
	}
	file := g.file("blkio.throttle.io_service_bytes_recursive", "io.stat")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	major, minor := diskOf(t, t.TempDir())
	if g.v2 == nil { // newer kernels count where there is a limit
		rule := fmt.Sprintf("%d:%d 1099511627776", major, minor)
		if err := os.WriteFile(filepath.Dir(file)+"/blkio.throttle.write_bps_device", []byte(rule), 0); err != nil {
			t.Fatal(err)
		}
	}
	writer := childCommand("write", filepath.Join(t.TempDir(), "data"), filepath.Dir(file)+"/cgroup.procs")
	if out, err := writer.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := c.Disks(&v); err != nil {
		t.Fatal(err)
	}
	d := v.Find(uint64(major), uint64(minor))
	if d == nil || d.WriteBytes < writtenBytes || d.Writes == 0 || d.WriteBytes > 2*writtenBytes+mib {
		t.Errorf("%+v after %d bytes were written to %d:%d", v, writtenBytes, major, minor)
	}
}

// diskOf is the disk that a directory is on. It needs one, which a tmpfs has
// not.
func diskOf(t *testing.T, dir string) (major, minor uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		t.Skipf("%s is on no disk (%v); say in TMPDIR what is", dir, err)
	}
	if _, err := os.Stat(path + "/partition"); err == nil {
		path = filepath.Dir(path)
	}
	text, err := os.ReadFile(path + "/dev")
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d:%d", &major, &minor)
	}
	if err != nil {
		t.Fatal(err)
	}
	return major, minor
}

func FuzzParseDisks(f *testing.F) {
	f.Add([]byte("8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=512 dios=1\n"))
	f.Add([]byte("7:0 7:1 8:0 rbytes=4096\n"))
	f.Add([]byte(serviceBytesText))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func(*view.Disks, []byte) error{parseIOStat, parseServiceBytes, parseServiced} {
			var v view.Disks
			err := parse(&v, b)
			if err == nil && len(b) > 0 && b[len(b)-1] != '\n' {
				t.Errorf("%q was taken for whole", b)
			}
			for i := range v.Disks {
				if d := &v.Disks[i]; v.At(d.Major, d.Minor) != d {
					t.Errorf("%q has a disk twice", b)
				}
			}
		}
	})
}
