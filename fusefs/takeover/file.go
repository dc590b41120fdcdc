// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The state file: this line, then records, the newest last. It is on a tmpfs,
// or not far from the page cache: what was written to it outlives the process,
// whatever the process dies of.
const stateHeader = "podproc state 1\n"

const (
	stateName = "state"
	stateNew  = "state.new" // while it is being written anew

	// It is written anew when more than this has been added, and so much
	// that it is worth while.
	addedMost = 1 << 20
)

// stateFile is the state file of the process that serves.
type stateFile struct {
	dir  string
	keep func(record []byte) bool

	mu      sync.Mutex // guards what follows
	file    *os.File   // what is appended to; nil if it cannot be
	written int        // length when it was written anew
	added   int        // bytes since
	buf     []byte
}

// add appends a record, if it is to be kept.
func (s *stateFile) add(record []byte) {
	if s.keep == nil || !s.keep(record) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return
	}
	s.buf = appendRecord(s.buf[:0], record)
	if _, err := s.file.Write(s.buf); err != nil {
		s.file.Close() // until it is written anew
		s.file = nil
	}
	s.added += len(s.buf)
}

// rewrite writes the file anew, with the state as it is: records come to the
// new file from the start on, so that none is in neither.
func (s *stateFile) rewrite(state State) error {
	if s.keep == nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(s.dir, stateNew), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(stateHeader)
	}
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	s.mu.Lock()
	old := s.file
	s.file, s.added = f, 0
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	state.Records(s.add)
	s.mu.Lock()
	s.written, s.added = s.added, 0
	s.mu.Unlock()
	if err := os.Rename(filepath.Join(s.dir, stateNew), filepath.Join(s.dir, stateName)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// stale tells whether it is worth while to write the file anew.
func (s *stateFile) stale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file == nil || s.added > addedMost+2*s.written
}

// Restore applies what the last process that served has left: for one that
// finds nobody alive. Files that are missing, or that another version has
// written in a form of its own, are no error.
func (n *Node) Restore(state State) error {
	for _, name := range []string{stateName, stateNew} {
		if err := restore(filepath.Join(n.config.Dir, name), state); err != nil {
			return fmt.Errorf("restore state: %w", err)
		}
	}
	return nil
}

func restore(path string, state State) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	body, ok := bytes.CutPrefix(text, []byte(stateHeader))
	if !ok {
		return nil
	}
	err = eachRecord(body, state.Apply)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // its writer died at it
	}
	return err
}
