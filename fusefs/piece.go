// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// piece is what a READ returns: fuse.ReadResultData without an allocation.
type piece struct{ text []byte }

var (
	pieces = sync.Pool{New: func() any { return new(piece) }}

	_ fuse.ReadResult = (*piece)(nil)
)

func newPiece(text []byte) *piece {
	p := pieces.Get().(*piece)
	p.text = text
	return p
}

func (p *piece) Bytes([]byte) ([]byte, fuse.Status) { return p.text, fuse.OK }
func (p *piece) Size() int                          { return len(p.text) }

// Done gives p back; it is called once, and last.
func (p *piece) Done() {
	p.text = nil
	pieces.Put(p)
}
