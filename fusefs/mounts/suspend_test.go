// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import "testing"

// TestSuspend: podproc goes, without anybody to hand over to, and comes back.
func TestSuspend(t *testing.T) {
	p, tr := planted(t, nodeNamespace())
	s := serve(t, p)
	c, user := start(t, spec{Binds: bind(p)}), start(t, spec{Binds: bind(p), User: true})
	for range 3 {
		for _, c := range []*container{c, user} {
			c.do("loop", meminfo)
		}
		if r, err := tr.Suspend(); err != nil || r.Failed != 0 {
			t.Fatalf("suspend: %+v, %v", r, err)
		}
		for _, c := range []*container{c, user} {
			await(t, "the kernel's file", func() bool { return c.seen("kernel") })
		}
		if r, err := tr.Suspend(); err != nil || r.Detached != 0 || r.Failed != 0 {
			t.Errorf("suspend again: %+v, %v", r, err)
		}
		next := serve(t, p)
		if r := repair(t, tr); r.Repaired != 2 || r.Failed != 0 {
			t.Fatalf("repair: %+v", r)
		}
		for _, c := range []*container{c, user} {
			await(t, "the next server's file", func() bool { return c.seen(next.text) })
			seen := c.stop()
			delete(seen, s.text)
			delete(seen, "kernel")
			delete(seen, next.text)
			if len(seen) > 0 {
				t.Errorf("readers have seen %v", seen)
			}
			if n := len(c.mounts(meminfo)); n > 2 {
				t.Errorf("%d mounts on top of each other", n)
			}
		}
		s.kill()
		s = next
	}
}
