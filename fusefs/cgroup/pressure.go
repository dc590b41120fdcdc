// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

var pressureFile = [view.NumResources]fileID{
	view.CPUResource:    v2CPUPressure,
	view.IOResource:     v2IOPressure,
	view.MemoryResource: v2MemoryPressure,
}

// Pressure reads how much the container has waited for a resource, as text.
// ErrNotCounted where it is in no v2 cgroup of its own, and where the kernel
// counts none: before Linux 4.20, with psi=0, and with cgroup.pressure 0.
func (c *Container) Pressure(v *view.Pressure, r view.Resource) error {
	v.Text = v.Text[:0]
	d := c.unified()
	if d == nil {
		return fmt.Errorf("pressure of %s: %w", c.b, ErrNotCounted)
	}
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	id := pressureFile[r]
	b, err := d.text(id, buf)
	if errors.Is(err, errAbsent) {
		return fmt.Errorf("read %s: %w", &d.files[id], ErrNotCounted)
	}
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b, []byte("some ")) || b[len(b)-1] != '\n' {
		return d.parsed(id, fmt.Errorf("%.100q is not a line \"some ...\"", b))
	}
	v.Text = append(v.Text, b...)
	return nil
}

// unified returns the container's v2 cgroup; nil if it has none.
func (c *Container) unified() *dir {
	for i := range c.chains {
		if ch := &c.chains[i]; ch.inside && ch.dirs[0].h.v2 {
			return ch.dirs[0]
		}
	}
	return nil
}
