// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/view"
)

// maxTasks bounds how many tasks Load counts.
const maxTasks = 1 << 16

// Load counts the tasks in the boundary and below by their state. Of a cgroup the
// kernel tells only which tasks are in it, and each costs a read of its own: so
// where there are more than most, Load looks at so many of them, evenly spread,
// and infers.
//
// LastPID is that of the task with the highest number, which is the newest
// unless numbers have begun anew since.
func (c *Container) Load(v *view.Load, most int) error {
	*v = view.Load{}
	ids, err := c.tasks()
	if err != nil || len(ids) == 0 {
		return err
	}
	looked := min(len(ids), max(1, most))
	first := rand.IntN(len(ids)) // not the same ones each time
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	for i := range looked {
		state, err := c.fs.taskState(ids[(first+i*len(ids)/looked)%len(ids)], buf)
		if ignoreEnded(err) != nil {
			return err
		}
		switch state {
		case 'R':
			v.Running++
		case 'D': // not I: idle threads of the kernel are no load
			v.Blocked++
		}
	}
	n, half := uint64(len(ids)), uint64(looked/2)
	v.Running = (v.Running*n + half) / uint64(looked)
	v.Blocked = (v.Blocked*n + half) / uint64(looked)
	v.Total = n
	slices.Sort(ids)
	for range min(len(ids), 8) { // the newest are the first to end
		v.LastPID, err = c.innerPid(ids[len(ids)-1])
		if err == nil {
			return nil
		}
		ids = ids[:len(ids)-1]
	}
	return ignoreEnded(err)
}

// tasks lists the tasks in the boundary and below.
func (c *Container) tasks() (all []int, err error) {
	d := c.main.dirs[0]
	name := "tasks"
	if d.h.v2 {
		name = "cgroup.threads"
	}
	err = d.h.walk(d.path, func(path string) error {
		ids, err := d.h.ids(path, name, maxTasks-len(all))
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // an invalid domain, in which no task can be
		}
		all = append(all, ids...)
		return err
	})
	return all, err
}

// taskState returns the state of a task; ErrNoProcess if that has ended.
func (fs *FS) taskState(id int, buf *buffer) (byte, error) {
	// /proc/ID/stat sums up all threads of the process, which takes long with
	// many; below task/ it is the thread's alone.
	dir := strconv.Itoa(id)
	name := "task/" + dir + "/stat"
	fd, err := openat(fs.procFD, dir+"/"+name, unix.O_RDONLY)
	var b []byte
	if err == nil {
		b, err = buf.pread(fd)
		unix.Close(fd)
	}
	p := process{fs: fs, id: id}
	if err != nil {
		return 0, p.wrap("read", name, err)
	}
	state, err := statState(b)
	return state, p.wrap("parse", name, err)
}

// pidNamespace is what a container's processes see of each other.
type pidNamespace struct {
	depth int // from FS's own, which is 1
	own   bool
}

// innerPid returns the number that task id has in the container's pid
// namespace; 0 if it has none there.
func (c *Container) innerPid(id int) (uint64, error) {
	ns, err := c.pidNamespace()
	if err != nil {
		return 0, err
	}
	p, err := c.fs.process(id)
	if err != nil {
		return 0, err
	}
	defer p.close()
	pids, err := p.namespacePids()
	if err != nil || len(pids) < ns.depth {
		return 0, err
	}
	return pids[ns.depth-1], nil
}

// pidNamespace finds out about the pid namespace of the container's oldest
// process, once: whether it is the container's own, that is whether its init
// is in the boundary, or one that the container shares.
func (c *Container) pidNamespace() (*pidNamespace, error) {
	if ns := c.namespace.Load(); ns != nil {
		return ns, nil
	}
	d := c.main.dirs[0]
	var ids []int
	err := d.h.walk(d.path, func(path string) error {
		more, err := d.h.procs(path, maxSearch-len(ids))
		ids = append(ids, more...)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	var ns *pidNamespace
	for _, id := range ids {
		pids, err := c.fs.namespacePidsOf(id)
		if ignoreEnded(err) != nil {
			return nil, err
		}
		switch {
		case err != nil:
			continue
		case ns == nil:
			ns = &pidNamespace{depth: len(pids)}
		}
		if ns.depth == 1 {
			break // FS's own, whatever its init is
		}
		if ns.own = len(pids) == ns.depth && pids[ns.depth-1] == 1; ns.own {
			break
		}
	}
	if ns == nil {
		return nil, ErrNoProcess
	}
	c.namespace.Store(ns)
	return ns, nil
}

func (fs *FS) namespacePidsOf(id int) ([]uint64, error) {
	p, err := fs.process(id)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.namespacePids()
}

// Visible reads how many tasks the container's processes see in /proc, or more:
// its own (see Tasks), or those of the cgroup above where it shares its pid
// namespace with others, as the containers of a pod may. Not Known where the
// kernel does not count these, and with the node's own pid namespace.
func (c *Container) Visible(v *view.Tasks) error {
	*v = view.Tasks{}
	ns, err := c.pidNamespace()
	if err != nil {
		return ignoreEnded(err)
	}
	if ns.own {
		return c.Tasks(v)
	}
	ch := c.by[pids]
	if ns.depth == 1 || ch == nil || !ch.inside || ch.shared < 2 {
		return nil
	}
	return c.tasksIn(ch.dirs[1], v)
}
