// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fuseDevice opens /dev/fuse. Nobody serves it.
func fuseDevice(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse")
	t.Cleanup(func() { dev.Close() })
	return dev
}

// point returns a mount point that is unmounted in the end.
func point(t *testing.T, ns string) Point {
	t.Helper()
	p := Point{Namespace: ns, Dir: filepath.Join(t.TempDir(), "fs")}
	t.Cleanup(func() {
		if err := p.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func ours(t *testing.T, p Point) (n int) {
	t.Helper()
	list, err := p.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if m.Ours() {
			n++
		}
	}
	return n
}

func TestMountReplacesWhatIsDeadOrStuck(t *testing.T) {
	p := point(t, "")
	dead := fuseDevice(t)
	if err := p.Mount(dead); err != nil {
		t.Fatal(err)
	}
	dead.Close()
	// A second one on top, as an older podproc may have left it. Its INIT is
	// never answered: whoever touches it waits.
	stuck := fuseDevice(t)
	fs, err := superblock(Point{}.options(stuck, "podproc-test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.MoveMount(int(fs.Fd()), "", unix.AT_FDCWD, p.Dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	fs.Close()
	if n := ours(t, p); n != 2 {
		t.Fatalf("%d mounts before, want 2", n)
	}
	if err := p.Mount(fuseDevice(t)); err != nil {
		t.Fatal(err)
	}
	if n := ours(t, p); n != 1 {
		t.Fatalf("%d mounts after, want 1", n)
	}
	// Cut off: a reader of the old device learns so at once.
	if _, err := unix.Read(descriptor(stuck), make([]byte, 1<<17)); err != unix.ENODEV {
		t.Errorf("read of the replaced connection: %v, want ENODEV", err)
	}
}

func TestMountOld(t *testing.T) {
	p := point(t, "")
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountOld(p.options(fuseDevice(t), "podproc-test"), p.Dir); err != nil {
		t.Fatal(err)
	}
	if n := ours(t, p); n != 1 {
		t.Fatalf("%d mounts, want 1", n)
	}
}

// A context is an option among others, and none where none is asked for.
func TestContext(t *testing.T) {
	dev := fuseDevice(t)
	fd := strconv.Itoa(descriptor(dev))
	const context = "system_u:object_r:container_file_t:s0:c1,c2"
	for _, test := range []struct{ context, want string }{
		{"", "fd=" + fd + ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"},
		{context, "fd=" + fd + ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,context=\"" + context + "\""},
	} {
		source, got := old(Point{Context: test.context}.options(dev, "podproc-test"))
		if source != "podproc-test" || got != test.want {
			t.Errorf("source %q, options %s\nwant %s", source, got, test.want)
		}
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		return // it would be taken
	}
	p := point(t, "")
	p.Context = context
	if err := p.Mount(dev); !errors.Is(err, ErrContext) || !strings.Contains(err.Error(), context) {
		t.Errorf("a context without SELinux: %v", err)
	}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountOld(p.options(dev, "podproc-test"), p.Dir); !errors.Is(err, ErrContext) {
		t.Errorf("a context without SELinux, the old way: %v", err)
	}
}

func TestUnmountLeavesOthers(t *testing.T) {
	p := point(t, "")
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("other", p.Dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(p.Dir, 0) })
	if err := p.Mount(fuseDevice(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Unmount(); err != nil {
		t.Fatal(err)
	}
	list, err := p.Mounts()
	if err != nil || len(list) != 1 || list[0].Type != "tmpfs" {
		t.Fatalf("left: %v, %v; want the tmpfs", list, err)
	}
}
