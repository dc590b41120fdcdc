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
		owned := 0
		for id, i := range fs.inodes {
			n, number := fs.table.node(id)
			if n == nil || n.file == nil || number == 0 {
				t.Fatalf("inode %#x is of no file", id)
			}
			if i.owner != nil {
				owned++
			}
		}
		if owned != fs.owned {
			t.Fatalf("%d inodes have an owner, %d are counted", owned, fs.owned)
		}
	})
}
