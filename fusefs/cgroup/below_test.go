// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import "testing"

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		name, inner, outer string
		want               bool
	}{
		{"itself", "memory:/a\n", "memory:/a\n", false},
		{"child", "memory:/a/b\n", "memory:/a\n", true},
		{"sibling of the same beginning", "memory:/ab\n", "memory:/a\n", false},
		{"below the root", "memory:/a\n", "memory:/\n", true},
		{"parent", "memory:/a\n", "memory:/a/b\n", false},
		{"deeper in one, same in the other", "cpu:/a\nmemory:/a/b\n", "cpu:/a\nmemory:/a\n", true},
		{"deeper in one, elsewhere in the other", "cpu:/x\nmemory:/a/b\n", "cpu:/a\nmemory:/a\n", false},
		{"fewer hierarchies", "cpu:/a/b\n", "cpu:/a\nmemory:/a\n", false},
		{"nothing", "", "", false},
	} {
		if got := (Boundary{paths: c.inner}).Below(Boundary{paths: c.outer}); got != c.want {
			t.Errorf("%s: %q below %q is %v, want %v", c.name, c.inner, c.outer, got, c.want)
		}
	}
}
