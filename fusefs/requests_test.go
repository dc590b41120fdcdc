// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"strings"
	"testing"
	"time"
)

// The kernel's page cache answers what is read again within the bound.
func TestReReadsAreCached(t *testing.T) {
	s, dir := mount(t)
	c := newContainer(t, 64<<20)
	at := bind(t, dir, "proc/meminfo")
	before := s.Conn.Served()
	took, err := time.ParseDuration(strings.TrimSpace(c.run(t, "hold", at, "2000", "500ms")))
	if err != nil {
		t.Fatal(err)
	}
	// A GETATTR and a READ in each 100 ms, and a few for the open.
	if n, most := s.Conn.Served()-before, uint64(2*(took/(100*time.Millisecond))+20); n > most {
		t.Errorf("2000 reads in %s cost %d requests, want at most %d", took, n, most)
	}
}

// Whoever opens a file each time pays no more than who holds it.
func TestRequestsOfAnOpen(t *testing.T) {
	s, dir := mount(t)
	c := newContainer(t, 64<<20)
	at := bind(t, dir, "proc/meminfo")
	before := s.Conn.Served()
	took, err := time.ParseDuration(strings.TrimSpace(c.run(t, "again", at, "2000")))
	if err != nil {
		t.Fatal(err)
	}
	if n, most := s.Conn.Served()-before, uint64(2*(took/(100*time.Millisecond))+20); n > most {
		t.Errorf("2000 times open, read and close in %s cost %d requests, want at most %d", took, n, most)
	}
}
