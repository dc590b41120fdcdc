// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strconv"
	"strings"
)

// Boundary is the cgroup, on v1 and hybrid one for each controller, at which a
// container begins: what is above limits it, what is below belongs to it.
// Boundaries can be compared and used as map keys.
type Boundary struct {
	id    uint64
	paths string // "HIERARCHY:PATH\n" for each hierarchy, in the order of FS.hiers
	kind  kind
	root  bool
}

type kind uint8

const (
	own       kind = iota // the reader's own cgroup
	named                 // a path component names a container
	namespace             // the cgroup of a pid namespace's init
)

var kindName = []string{"own", "named", "namespace"}

// ID returns the kernfs id, that is the inode number, of the boundary's
// directory, on v1 and hybrid of the one in the memory hierarchy (of another
// one, marked in bits 48 to 54, if the container is only known there). It fits
// into 55 bits. Two live containers have different ids; readers in no
// container may share one on v1, in different cgroups of other controllers.
func (b Boundary) ID() uint64 { return b.id }

// String returns the boundary's id and paths in a form that Parse and Reopen read.
func (b Boundary) String() string {
	return kindName[b.kind] + " " + strconv.FormatUint(b.id, 10) + " " + strings.TrimSuffix(b.paths, "\n")
}

// Container tells whether b is a container's; if not it is the reader's own
// cgroup.
func (b Boundary) Container() bool { return b.kind != own }

// Root tells whether b is the root cgroup for everything that limits memory or
// CPU: the host's text applies.
func (b Boundary) Root() bool { return b.root }

// Below tells whether b lies below o: in no hierarchy elsewhere, and deeper in
// one at least. A container that another one runs lies below it.
func (b Boundary) Below(o Boundary) bool {
	deeper := false
	outer, rest := "", o.paths
	for line := range strings.Lines(b.paths) {
		outer, rest, _ = strings.Cut(rest, "\n")
		inner := strings.TrimSuffix(line, "\n")
		if inner == outer {
			continue
		}
		if !strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/") {
			return false
		}
		deeper = true
	}
	return deeper && rest == ""
}

// place is a cgroup path in one hierarchy.
type place struct {
	h    *hierarchy
	path string
}

// boundary builds a Boundary out of one place for each hierarchy, in the
// order of FS.hiers.
func (fs *FS) boundary(places []place, k kind) (Boundary, error) {
	id, err := fs.identify(places, k)
	if err != nil {
		return Boundary{}, err
	}
	var paths strings.Builder
	for _, p := range places {
		paths.WriteString(p.h.name)
		paths.WriteByte(':')
		paths.WriteString(p.path)
		paths.WriteByte('\n')
	}
	return Boundary{id: id, paths: paths.String(), kind: k, root: fs.isRoot(places)}, nil
}

// isRoot tells whether places lie at the root in each hierarchy whose numbers
// the container would be shown.
func (fs *FS) isRoot(places []place) bool {
	for _, p := range places {
		for _, c := range []controller{memory, cpu, cpuacct, cpuset} {
			if fs.by[c] == p.h && p.path != "/" {
				return false
			}
		}
	}
	return true
}

const hierarchyShift = 48 // above the inode number in an id

// identify returns the id of a boundary: of its memory cgroup, unless only
// another hierarchy knows the container.
func (fs *FS) identify(places []place, k kind) (uint64, error) {
	p := primary(fs.by[memory], places, k)
	ino, err := p.h.inode(p.path)
	if err != nil {
		return 0, err
	}
	if p.h != fs.by[memory] {
		ino |= uint64(p.h.index+1) << hierarchyShift
	}
	return ino, nil
}

// primary returns the place that stands for all: the one in hierarchy mem if
// that is inside the container, else the first that is, else the first.
func primary(mem *hierarchy, places []place, k kind) place {
	best := places[0]
	found := false
	for _, p := range places {
		in := inside(p.path, k)
		if p.h == mem && (in || k == own) {
			return p
		}
		if in && !found {
			best, found = p, true
		}
	}
	return best
}

// inside tells whether the boundary path of one hierarchy is the container's,
// and not a cgroup that the container shares with others because the runtime
// does not use that hierarchy.
func inside(path string, k kind) bool {
	switch k {
	case named:
		n, ok := container(path)
		return ok && n == len(path)
	case namespace:
		return path != "/"
	}
	return true
}

// Parse returns the Boundary that had the given String, maybe in another
// process, whether its cgroups still exist or not.
func (fs *FS) Parse(s string) (Boundary, error) {
	b, _, err := fs.parseBoundary(s)
	return b, err
}

// Reopen is Parse of what has to exist: ErrGone if it was removed since.
func (fs *FS) Reopen(s string) (Boundary, error) {
	b, places, err := fs.parseBoundary(s)
	if err != nil {
		return Boundary{}, err
	}
	id, err := fs.identify(places, b.kind)
	if err != nil {
		return Boundary{}, err
	}
	if id != b.id {
		return Boundary{}, fmt.Errorf("boundary %s has id %d by now: %w", b, id, ErrGone)
	}
	return b, nil
}

func (fs *FS) parseBoundary(s string) (b Boundary, places []place, err error) {
	defer func() {
		if err != nil {
			b, err = Boundary{}, fmt.Errorf("parse boundary %.200q: %w", s, err)
		}
	}()
	word, rest, _ := strings.Cut(s, " ")
	var k kind
	for k < kind(len(kindName)) && kindName[k] != word {
		k++
	}
	if k == kind(len(kindName)) {
		return Boundary{}, nil, fmt.Errorf("unknown kind %q", word)
	}
	num, paths, ok := strings.Cut(rest, " ")
	id, err := strconv.ParseUint(num, 10, 64)
	if !ok || err != nil {
		return Boundary{}, nil, fmt.Errorf("id %q is not a number", num)
	}
	b = Boundary{id: id, paths: paths + "\n", kind: k}
	places, err = fs.places(b)
	b.root = fs.isRoot(places)
	return b, places, err
}

// places is the opposite of boundary.
func (fs *FS) places(b Boundary) ([]place, error) {
	var places []place
	next := 0
	for line := range strings.Lines(b.paths) {
		name, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if !ok {
			return nil, fmt.Errorf("no path in %q", line)
		}
		for next < len(fs.hiers) && fs.hiers[next].name != name {
			next++
		}
		if next == len(fs.hiers) {
			return nil, fmt.Errorf("no cgroup hierarchy %q here", name)
		}
		if err := checkPath(path); err != nil {
			return nil, err
		}
		places = append(places, place{fs.hiers[next], path})
		next++
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("no path")
	}
	return places, nil
}
