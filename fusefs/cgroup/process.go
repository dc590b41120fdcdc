// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is an open /proc/TID: whatever is read through it is of the same
// task, or ErrNoProcess once that has ended, even if its id is in use again.
type process struct {
	fs  *FS
	id  int
	fd  int
	buf *buffer
}

func (fs *FS) process(id int) (process, error) {
	name := strconv.Itoa(id)
	fd, err := openat(fs.procFD, name, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH):
		return process{}, fmt.Errorf("thread %d: %w", id, ErrNoProcess)
	case err != nil:
		return process{}, fmt.Errorf("open %s/%d: %w", fs.proc, id, err)
	}
	return process{fs: fs, id: id, fd: fd, buf: fs.scratch.get()}, nil
}

func (p process) close() {
	p.fs.scratch.put(p.buf)
	unix.Close(p.fd)
}

// read returns a file's text, which is valid until the next read.
func (p process) read(name string) ([]byte, error) {
	fd, err := openat(p.fd, name, unix.O_RDONLY)
	var b []byte
	if err == nil {
		b, err = p.buf.readAll(fd)
		unix.Close(fd)
	}
	return b, p.wrap("read", name, err)
}

// wrap tells which file err is about. A task that has ended shows as ESRCH or
// as the files of its directory being gone.
func (p process) wrap(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH):
		return fmt.Errorf("thread %d: %w", p.id, ErrNoProcess)
	}
	return fmt.Errorf("%s %s/%d/%s: %w", verb, p.fs.proc, p.id, name, err)
}

// places returns the cgroups that the task is in, in the order of FS.hiers.
func (p process) places() ([]place, error) {
	b, err := p.read("cgroup")
	if err != nil {
		return nil, err
	}
	places, err := p.fs.parseCgroup(b)
	if err != nil {
		return nil, fmt.Errorf("parse %s/%d/cgroup: %w", p.fs.proc, p.id, err)
	}
	// On v1 a task that is about to end shows in the root cgroup. A flag
	// that is not set afterwards was not set before.
	for _, pl := range places {
		if pl.path == "/" && !pl.h.v2 {
			return places, p.living()
		}
	}
	return places, nil
}

const flagExiting = 0x4 // PF_EXITING

// living returns ErrNoProcess if the task is about to end.
func (p process) living() error {
	b, err := p.read("stat")
	if err != nil {
		return err
	}
	flags, err := statField(b, 9)
	if err != nil {
		return fmt.Errorf("parse %s/%d/stat: %w", p.fs.proc, p.id, err)
	}
	if flags&flagExiting != 0 {
		return fmt.Errorf("thread %d: %w", p.id, ErrNoProcess)
	}
	return nil
}

// parseCgroup reads the text of /proc/TID/cgroup: "ID:CONTROLLERS:PATH" lines,
// where v2's has no controllers. Hierarchies that podproc does not use are left
// out.
func (fs *FS) parseCgroup(b []byte) ([]place, error) {
	paths := make([]string, len(fs.hiers))
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return nil, fmt.Errorf("%.200q does not end in a newline", b)
	}
	for line := range strings.Lines(string(b)) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			return nil, fmt.Errorf("%.200q is not ID:CONTROLLERS:PATH", line)
		}
		if err := fs.assign(paths, strings.Split(controllers, ","), path); err != nil {
			return nil, fmt.Errorf("%.200q: %w", line, err)
		}
	}
	var places []place
	for i, path := range paths {
		if path != "" {
			places = append(places, place{fs.hiers[i], path})
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("%.200q has none of the mounted hierarchies", b)
	}
	return places, nil
}

// assign sets the path of each hierarchy that one of the controllers finds.
func (fs *FS) assign(paths, controllers []string, path string) error {
	for i, h := range fs.hiers {
		if !slices.Contains(controllers, h.first) {
			continue
		}
		if paths[i] != "" {
			return errors.New("second path in one hierarchy")
		}
		if err := checkPath(path); err != nil {
			return err
		}
		paths[i] = path
	}
	return nil
}

// Boundary returns the boundary of the container that thread tid runs in. The
// errors to branch on are ErrNoProcess, ErrGone and ErrNamespaced.
//
// In each hierarchy it is the deepest component of the thread's cgroup path
// that names a container, see container. If no hierarchy has one and the thread
// is in another pid namespace than FS's procfs, it is the cgroup of that
// namespace's init (without a trailing /init.scope) where the thread is in that
// cgroup or below. Else it is the thread's own cgroup.
func (fs *FS) Boundary(tid uint32) (Boundary, error) {
	p, err := fs.process(int(tid))
	if err != nil {
		return Boundary{}, err
	}
	defer p.close()
	places, err := p.places()
	if err != nil {
		return Boundary{}, err
	}
	if err := checkDeleted(places); err != nil {
		return Boundary{}, err
	}
	k := own
	for i, pl := range places {
		if n, ok := container(pl.path); ok {
			k = named
			places[i].path = pl.path[:n]
		}
	}
	if k == own {
		if k, err = p.namespaceBoundary(places); err != nil {
			return Boundary{}, err
		}
	}
	return fs.boundary(places, k)
}

// checkDeleted returns ErrGone for the mark that v2 puts behind the path of a
// removed cgroup, unless that is the cgroup's name.
func checkDeleted(places []place) error {
	for _, p := range places {
		if !strings.HasSuffix(p.path, " (deleted)") {
			continue
		}
		if _, err := p.h.inode(p.path); err != nil {
			return err
		}
	}
	return nil
}

// namespaceBoundary replaces places by those of the init of p's pid namespace
// where it applies.
func (p process) namespaceBoundary(places []place) (kind, error) {
	init, err := p.namespaceInit(places)
	if err != nil || init == nil {
		return own, err
	}
	k := own
	for i, pl := range places {
		for _, in := range init {
			path, cut := strings.CutSuffix(in.path, "/init.scope")
			if cut && path == "" {
				path = "/"
			}
			if in.h == pl.h && contains(path, pl.path) {
				places[i].path = path
				if path != "/" {
					k = namespace
				}
			}
		}
	}
	return k, nil
}

// namespaceInit returns the cgroups of the init of p's pid namespace; nil if
// that is FS's own namespace, or if init cannot be found.
func (p process) namespaceInit(places []place) ([]place, error) {
	depth, _, err := p.namespacePid()
	if err != nil || depth < 2 {
		return nil, err
	}
	ns, err := p.namespace()
	if err != nil {
		return nil, err
	}
	if ns == "" {
		return nil, nil
	}
	if id := p.askInit(); id > 0 {
		return p.initPlaces(id, ns)
	}
	return p.searchInit(places, ns)
}

// namespacePid returns in how many pid namespaces, from FS's own on inwards, p
// has a pid, and its pid in the innermost.
func (p process) namespacePid() (depth int, pid uint64, err error) {
	pids, err := p.namespacePids()
	if len(pids) > 0 {
		pid = pids[len(pids)-1]
	}
	return len(pids), pid, err
}

// namespacePids returns p's pid in each of its pid namespaces, from FS's own
// on inwards.
func (p process) namespacePids() (pids []uint64, err error) {
	b, err := p.read("status")
	if err != nil {
		return nil, err
	}
	_, rest, ok := bytes.Cut(b, []byte("\nNSpid:"))
	line, _, ok2 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 {
		return nil, fmt.Errorf("parse %s/%d/status: no NSpid line", p.fs.proc, p.id)
	}
	for f := range bytes.FieldsSeq(line) {
		pid, ok := parseUint(f)
		if !ok {
			return nil, fmt.Errorf("parse %s/%d/status: NSpid:%.100q", p.fs.proc, p.id, line)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// namespace returns the name of p's pid namespace, "" where the kernel does
// not let us see it.
func (p process) namespace() (string, error) {
	var buf [64]byte
	n, err := unix.Readlinkat(p.fd, "ns/pid", buf[:])
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return "", nil
	}
	return string(buf[:max(n, 0)]), p.wrap("read", "ns/pid", err)
}

// askInit asks the kernel for the init of p's pid namespace (Linux 6.11), 0 if
// it does not say.
func (p process) askInit() int {
	fd, err := openat(p.fd, "ns/pid", unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	id, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_TGID_FROM_PIDNS, 1)
	if errno != 0 {
		return 0
	}
	return int(id)
}

// initPlaces returns the cgroups of process id if it is the init of pid
// namespace ns, else nil.
func (p process) initPlaces(id int, ns string) ([]place, error) {
	q, err := p.fs.process(id)
	if err != nil {
		return nil, ignoreEnded(err)
	}
	defer q.close()
	if got, err := q.namespace(); err != nil || got != ns {
		return nil, ignoreEnded(err)
	}
	if _, pid, err := q.namespacePid(); err != nil || pid != 1 {
		return nil, ignoreEnded(err)
	}
	places, err := q.places()
	return places, ignoreEnded(err)
}

func ignoreEnded(err error) error {
	if errors.Is(err, ErrNoProcess) {
		return nil
	}
	return err
}

const maxSearch = 4096 // processes looked at in search of an init

// searchInit looks for the init of pid namespace ns where it would count: in
// p's cgroup and the ones above, deepest first, each with its init.scope.
func (p process) searchInit(places []place, ns string) ([]place, error) {
	at := primary(p.fs.by[memory], places, own)
	left := maxSearch
	for path, ok := at.path, true; ok; path, ok = parent(path) {
		for _, dir := range []string{path, strings.TrimSuffix(path, "/") + "/init.scope"} {
			ids, err := at.h.procs(dir, left)
			if err != nil && !errors.Is(err, ErrGone) {
				return nil, err
			}
			left -= len(ids)
			for _, id := range ids {
				if found, err := p.initPlaces(id, ns); err != nil || found != nil {
					return found, err
				}
			}
		}
	}
	return nil, nil
}
