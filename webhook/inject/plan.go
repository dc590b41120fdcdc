// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"strconv"
)

// planner collects what is to be added to the containers of one pod.
type planner struct {
	in      *Injector
	want    fileSet
	choice  choice
	onPod   bool // the pod itself asked
	volumes []volumeState
	fixed   bool            // volumes cannot be added: mount only what is there
	running map[string]bool // containers that cannot change any more

	ops     []Operation
	done    []Container
	mounted fileSet // files that at least one container has from podproc
	added   int     // mounts
}

// containers plans for the array of containers at a JSON Pointer.
func (pl *planner) containers(at string, role Role, cs []*container) {
	for i, c := range cs {
		if c == nil {
			continue
		}
		res := Container{Name: c.Name, Role: c.role(role)}
		if res.Reason = pl.leave(c); res.Reason == "" {
			pl.container(at+"/"+strconv.Itoa(i), c, &res)
		}
		pl.done = append(pl.done, res)
	}
}

// leave returns why a whole container is left alone, or "".
func (pl *planner) leave(c *container) Reason {
	if pl.running[c.Name] {
		return AlreadyRunning
	}
	if reason := pl.choice.leave(c.Name); reason != "" {
		return reason
	}
	if c.SecurityContext == nil {
		return ""
	}
	// In both the kernel's /proc has nothing mounted over it, but for podproc's files.
	switch {
	case c.SecurityContext.ProcMount == "Unmasked":
		return ProcMountUnmasked
	case c.SecurityContext.Privileged && !pl.onPod:
		return Privileged
	}
	return ""
}

// container plans the mounts of one container.
func (pl *planner) container(at string, c *container, res *Container) {
	var mounts []*mountValue
	res.Files = make([]File, 0, len(pl.in.mounts))
	for i := range files {
		if !pl.want.has(i) {
			continue
		}
		f := File{Name: files[i].name}
		f.Reason, f.Added = pl.file(i, c)
		if f.Added {
			mounts = append(mounts, &pl.in.mounts[i])
		}
		if f.Reason == "" {
			pl.mounted |= 1 << i
		}
		res.Files = append(res.Files, f)
	}
	pl.added += len(mounts)
	pl.ops = appendTo(pl.ops, at+"/volumeMounts", c.VolumeMounts != nil, mounts)
}

// file decides on one file in one container: why it is not mounted, or whether
// it has to be added.
func (pl *planner) file(i int, c *container) (why Reason, add bool) {
	f := &files[i]
	taken := pl.volumes[i] == volumeTaken
	ours := false
	for _, m := range c.VolumeMounts {
		if m == nil {
			continue
		}
		at := cleanMount(m.MountPath)
		switch {
		case !covers(at, f.mount):
		case at == f.mount && m.Name == f.volume && !taken:
			ours = true
		default:
			return OwnMount, false
		}
	}
	for i := range c.VolumeDevices {
		if covers(cleanMount(c.VolumeDevices[i].DevicePath), f.mount) {
			return OwnMount, false
		}
	}
	switch {
	case taken:
		return VolumeNameTaken, false
	case pl.fixed && pl.volumes[i] == volumeAbsent:
		return NoVolume, false
	}
	return "", !ours
}

// whyNone returns why no container got a file: the first reason that is not a
// choice of the user's, else the first.
func (pl *planner) whyNone() Reason {
	chosen := NoContainer
	for i := range pl.done {
		c := &pl.done[i]
		switch c.Reason {
		case "":
			return c.Files[0].Reason // there is one: something was wanted
		case ProcMountUnmasked, Privileged:
			return c.Reason
		}
		if chosen == NoContainer || chosen == AlreadyRunning {
			chosen = c.Reason
		}
	}
	return chosen
}

// taken returns a problem for each wanted file whose volume name the pod uses
// for something else.
func (pl *planner) taken() []string {
	var problems []string
	for i := range files {
		if pl.want.has(i) && pl.volumes[i] == volumeTaken {
			problems = append(problems, fmt.Sprintf("%s is not mounted: the pod has a volume %s that is not podproc's", files[i].name, files[i].volume))
		}
	}
	return problems
}
