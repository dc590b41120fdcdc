// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"path"
	"slices"
	"strconv"
)

// decidePod decides on a pod that is being created.
func (in *Injector) decidePod(r Request) Result {
	p, hadMetadata, err := decodePod(r.Object)
	if err != nil {
		return failed("pod", err)
	}
	d := in.pod(&p, r.Namespace, len(r.Object))
	if d.Status == nil {
		return d.Result
	}
	set := []annotation{{StatusKey, d.Status.encode()}}
	if list, ok := evictable(p.Metadata.Annotations, d.volumes); ok {
		set = append(set, annotation{evictVolumesKey, list})
	}
	set, dropped := fitting(p.Metadata.Annotations, set)
	if dropped {
		d.Status = nil
	}
	d.Patch = annotate(d.ops, "/metadata", hadMetadata, p.Metadata.Annotations, set)
	return d.Result
}

// decision is a Result in the making.
type decision struct {
	Result
	problems []string    // with podproc's annotations
	ops      []Operation // on the pod's spec
	volumes  fileSet     // podproc's volumes in the pod as patched
}

// pod decides on a pod of size bytes; the Result has all but the Patch.
func (in *Injector) pod(p *podObject, ns *Namespace, size int) *decision {
	a := in.asked(p.Metadata, ns)
	d := &decision{Result: Result{Owner: p.Metadata.controller()}, problems: a.problems}
	if reason, detail := in.whole(p, ns, a); reason != "" {
		return d.leave(p, reason, detail)
	}
	want, bad := in.chosenFiles(p.Metadata.Annotations[FilesKey])
	d.problems = append(d.problems, bad...)
	d.problems = append(d.problems, absent(p)...)
	if want == 0 {
		return d.leave(p, NoFile, "")
	}
	pl := &planner{in: in, want: want, onPod: a.onPod, choice: chosenContainers(p.Metadata.Annotations), volumes: in.volumesOf(p.Spec)}
	pl.containers("/spec/initContainers", InitContainer, p.Spec.InitContainers)
	pl.containers("/spec/containers", AppContainer, p.Spec.Containers)
	d.Containers = pl.done
	d.problems = append(d.problems, pl.taken()...)
	if pl.mounted == 0 {
		d.skip(pl.whyNone(), "")
		return d
	}
	if grown := size + pl.added*storedMount + len(files)*storedVolume; pl.added > 0 && grown > maxStored {
		return d.leave(p, TooLarge, strconv.Itoa(grown)+" bytes")
	}
	d.inject(p, pl)
	return d
}

// leave makes d a decision to leave every container alone.
func (d *decision) leave(p *podObject, reason Reason, detail string) *decision {
	d.skip(reason, detail)
	d.Containers = make([]Container, 0, len(p.Spec.InitContainers)+len(p.Spec.Containers))
	for _, c := range p.Spec.InitContainers {
		d.Containers = appendLeft(d.Containers, c, InitContainer, reason)
	}
	for _, c := range p.Spec.Containers {
		d.Containers = appendLeft(d.Containers, c, AppContainer, reason)
	}
	return d
}

func appendLeft(to []Container, c *container, role Role, reason Reason) []Container {
	if c == nil {
		return to
	}
	return append(to, Container{Name: c.Name, Role: c.role(role), Reason: reason})
}

// role tells a sidecar from the init containers it is among.
func (c *container) role(among Role) Role {
	if among == InitContainer && c.RestartPolicy == "Always" {
		return SidecarContainer
	}
	return among
}

// whole returns why the whole pod is left alone, or "".
func (in *Injector) whole(p *podObject, ns *Namespace, a ask) (reason Reason, detail string) {
	switch {
	case a.no != "":
		return OptedOut, a.no
	case !a.yes && (ns != nil || p.template):
		return NotAsked, ""
	}
	s := &subject{podObject: p, ask: a, ns: ns}
	for _, rule := range rules {
		if detail, ok := rule.holds(in, s); ok {
			return rule.reason, detail
		}
	}
	return "", ""
}

// inject fills the decision in from a plan that mounts something.
func (d *decision) inject(p *podObject, pl *planner) {
	var volumes []*volumeValue
	for i := range files {
		if pl.mounted.has(i) && pl.volumes[i] == volumeAbsent {
			volumes = append(volumes, &pl.in.volumes[i])
		}
	}
	d.Outcome = Unchanged
	if pl.added > 0 || len(volumes) > 0 {
		d.Outcome = Injected
	}
	d.Status = pl.status(d.problems)
	d.warn()
	d.volumes = pl.mounted
	d.ops = append(appendTo(nil, "/spec/volumes", p.Spec.Volumes != nil, volumes), pl.ops...)
}

// A pod is stored with the names of all its fields in managedFields. A mount
// or volume costs less than this, in bytes; etcd takes 1.5 MiB, less some room
// for the status that the pod will have.
const (
	storedMount  = 200
	storedVolume = 250
	maxStored    = 1536<<10 - 64<<10
)

// absent returns a problem for each name in the annotations that no container
// of the pod has. A template may lack those that other webhooks add to its
// pods, and which are excluded for that reason.
func absent(p *podObject) []string {
	problems := missing(ContainersKey, p.Metadata.Annotations[ContainersKey], p.Spec.hasContainer)
	if p.template {
		return problems
	}
	return append(problems, missing(ExcludeContainersKey, p.Metadata.Annotations[ExcludeContainersKey], p.Spec.hasContainer)...)
}

func (s *podSpec) hasContainer(name string) bool {
	has := func(c *container) bool { return c != nil && c.Name == name }
	return slices.ContainsFunc(s.Containers, has) || slices.ContainsFunc(s.InitContainers, has)
}

// volumeState says what a pod has under the name of one of podproc's volumes.
type volumeState uint8

const (
	volumeAbsent volumeState = iota
	volumeOurs               // podproc's own, by name and path
	volumeTaken              // something else
)

// volumesOf returns the state of podproc's volume for each file of the table.
func (in *Injector) volumesOf(s *podSpec) []volumeState {
	states := make([]volumeState, len(files))
	for _, v := range s.Volumes {
		if v == nil {
			continue
		}
		for i := range files {
			if files[i].volume == "" || files[i].volume != v.Name {
				continue
			}
			states[i] = volumeTaken
			if v.HostPath != nil && v.HostPath.Path == in.volumes[i].HostPath.Path && v.HostPath.Type == hostPathFile {
				states[i] = volumeOurs
			}
		}
	}
	return states
}

// cleanMount makes what a user wrote as a mount path comparable: runtimes take
// it below the container's root.
func cleanMount(p string) string { return path.Clean("/" + p) }
