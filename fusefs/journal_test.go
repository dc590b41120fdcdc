// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import "testing"

// A record comes from another process, maybe of another version: whatever it
// holds, it is an error or it is applied, and what is known stays sound.
func FuzzApply(f *testing.F) {
	for _, r := range []string{
		"", "o", "f", "c", "g", "l", "x", "o\x80", "c\xff\xff\xff\xff\x0f", "f\x85\x80\x80\x80\x80\x80\x80\x80\x20",
		"o\x81\x80\x80\x80\x80\x80\x80\x80\x20\x1dnamed 1 memory:/podproc-1.scope",
		"g\x1dnamed 1 memory:/podproc-1.scope", "c\x1dnamed 1 memory:/podproc-1.scope\x01",
		"h\x81\x80\x80\x80\x80\x80\x80\x80\x20\x1dnamed 1 memory:/podproc-1.scope",
		"l\x1dnamed 1 memory:/podproc-1.scope\x07\x01\x01\x02\x03\x04\x05\x06\x07\x08",
	} {
		f.Add([]byte(r))
	}
	fs, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		_ = fs.Apply(record)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		owned, inodes := 0, map[*container]int64{}
		for id, i := range fs.inodes {
			n, number := fs.table.node(id)
			if n == nil || n.file == nil || number == 0 {
				t.Fatalf("inode %#x is of no file", id)
			}
			if i.owner != nil {
				owned++
				inodes[i.owner]++
			}
			if i.hint != nil {
				inodes[i.hint]++
			}
			if i.owner != nil && i.hint != nil {
				t.Fatalf("inode %#x has an owner, and one to come", id)
			}
		}
		if owned != fs.owned {
			t.Fatalf("%d inodes have an owner, %d are counted", owned, fs.owned)
		}
		for b, c := range fs.containers {
			if got := c.inodes.Load(); got != inodes[c] {
				t.Fatalf("%s has %d inodes, %d are counted", b, inodes[c], got)
			}
		}
	})
}
