// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/procfile"
)

// host is the node's own kernel files.
type host struct {
	sources [procfile.NumSources]hostFile

	mu      sync.Mutex // guards the map
	foreign map[string]*hostFile
}

// newHost reads proc/... under procDir and sys/... under sysDir. What is read
// may be half as old as a container's snapshot of it.
func newHost(procDir, sysDir string, freshness time.Duration) *host {
	h := &host{foreign: map[string]*hostFile{}}
	for s := range procfile.NumSources {
		h.sources[s] = hostFile{path: rebase(s.Path(), procDir, sysDir), every: max(s.Every(), freshness/2), empty: s.Empty()}
	}
	return h
}

// rebase says where path is if procfs and sysfs are mounted elsewhere.
func rebase(path, procDir, sysDir string) string {
	if rest, ok := strings.CutPrefix(path, "proc/"); ok {
		return filepath.Join(procDir, rest)
	}
	if rest, ok := strings.CutPrefix(path, "sys/"); ok {
		return filepath.Join(sysDir, rest)
	}
	return "/" + path
}

// get collects in all what f is rendered from.
func (h *host) get(f *procfile.File, all *procfile.Host) error {
	for _, s := range f.Sources {
		if err := h.sources[s].get(s, all); err != nil {
			return err
		}
	}
	return nil
}

// text is a file that this version cannot render, as it is.
func (h *host) text(path, procDir, sysDir string) ([]byte, error) {
	h.mu.Lock()
	f := h.foreign[path]
	if f == nil {
		f = &hostFile{path: rebase(path, procDir, sysDir)}
		h.foreign[path] = f
	}
	h.mu.Unlock()
	f.reading.Lock()
	defer f.reading.Unlock()
	return f.read()
}

// hostFile is a kernel file of the node, read and parsed at most once in an
// interval, however many containers ask.
type hostFile struct {
	path  string
	every time.Duration
	empty bool // it may be

	reading sync.Mutex // held over a read: one at a time
	file    *os.File

	mu    sync.Mutex // guards what follows
	value procfile.Host
	taken time.Duration // since boot; 0: never
	last  []byte
}

// get adds the file, which is s, parsed, to what is in into.
func (f *hostFile) get(s procfile.Source, into *procfile.Host) error {
	if f.young(into) {
		return nil
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.young(into) {
		return nil
	}
	taken := sinceBoot()
	text, err := f.read()
	if err != nil {
		return fmt.Errorf("read %s of the host: %w", f.path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken == 0 || !bytes.Equal(text, f.last) {
		if err := f.value.Parse(s, text); err != nil {
			return fmt.Errorf("host: %w", err)
		}
		f.last = text
	}
	f.taken = taken
	merge(into, &f.value)
	return nil
}

func (f *hostFile) young(into *procfile.Host) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken == 0 || sinceBoot()-f.taken >= f.every {
		return false
	}
	merge(into, &f.value)
	return true
}

// merge sets what is set in from.
func merge(into, from *procfile.Host) {
	into.Meminfo = cmp.Or(from.Meminfo, into.Meminfo)
	into.Cpuinfo = cmp.Or(from.Cpuinfo, into.Cpuinfo)
	into.Stat = cmp.Or(from.Stat, into.Stat)
	into.Swaps = cmp.Or(from.Swaps, into.Swaps)
	into.Online = cmp.Or(from.Online, into.Online)
	into.Uptime = cmp.Or(from.Uptime, into.Uptime)
	into.Loadavg = cmp.Or(from.Loadavg, into.Loadavg)
	into.Diskstats = cmp.Or(from.Diskstats, into.Diskstats)
	for r := range into.Pressure {
		into.Pressure[r] = cmp.Or(from.Pressure[r], into.Pressure[r])
	}
}

// read reads the file, which stays open, from its beginning. Its caller holds
// reading.
func (f *hostFile) read() ([]byte, error) {
	if f.file == nil {
		file, err := os.Open(f.path)
		if err != nil {
			return nil, err
		}
		f.file = file
	}
	text := make([]byte, 0, max(4096, len(f.last)+len(f.last)/8))
	for {
		// pread: a procfs file is rendered anew at offset 0.
		n, err := unix.Pread(int(f.file.Fd()), text[len(text):cap(text)], int64(len(text)))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0 && len(text) == 0 && !f.empty:
			return nil, io.ErrUnexpectedEOF
		case n == 0:
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
	}
}
