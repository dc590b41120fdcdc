// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A state file is this line, then records, the newest last. It is on a tmpfs,
// or not far from the page cache: what was written to it outlives the process,
// whatever the process dies of.
//
// A file is begun anew now and then, as state.1, state.2 and so on. Those
// before it are removed when it has all of the state: until then the newest
// records may be in any of them.
const stateHeader = "podproc state 1\n"

const statePrefix = "state."

// addedMost is how much is added to a file before another one is begun, or
// more where the state itself is long.
const addedMost = 1 << 20

// stateFile is the state file of the process that serves.
type stateFile struct {
	dir  string
	keep func(record []byte) bool

	mu      sync.Mutex // guards what follows
	file    *os.File   // what is appended to; nil if it cannot be
	number  int        // of the file
	size    int        // of the file
	whole   bool       // it has all of the state
	written int        // its length then
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
		s.file.Close() // until the next one is begun
		s.file = nil
	}
	s.size += len(s.buf)
	s.added += len(s.buf)
}

// position is how far the state files go.
type position struct{ number, size int }

func (s *stateFile) position() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position{s.number, s.size}
}

func (p position) encode(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(p.number)), uint64(p.size))
}

func decodePosition(body []byte) (p position, ok bool) {
	number, k := binary.Uvarint(body)
	if k <= 0 {
		return p, false
	}
	size, l := binary.Uvarint(body[k:])
	return position{int(number), int(size)}, l > 0
}

// begin begins another file.
func (s *stateFile) begin() error {
	if s.keep == nil {
		return nil
	}
	numbers, err := stateFiles(s.dir)
	if err != nil {
		return fmt.Errorf("begin state file: %w", err)
	}
	number := 1
	if len(numbers) > 0 {
		number = numbers[len(numbers)-1] + 1
	}
	f, err := os.OpenFile(statePath(s.dir, number), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(stateHeader)
	}
	if err != nil {
		return fmt.Errorf("begin state file: %w", err)
	}
	s.mu.Lock()
	old := s.file
	s.file, s.number, s.size, s.whole, s.added = f, number, len(stateHeader), false, 0
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

// complete writes the whole state to the file, and removes those before it.
func (s *stateFile) complete(state State) error {
	if s.keep == nil {
		return nil
	}
	state.Records(s.add)
	s.mu.Lock()
	s.whole = s.file != nil
	s.written, s.added = s.added, 0
	whole, number := s.whole, s.number
	s.mu.Unlock()
	if !whole {
		return errors.New("write state file: no room")
	}
	numbers, err := stateFiles(s.dir)
	if err != nil {
		return fmt.Errorf("remove old state files: %w", err)
	}
	for _, n := range numbers {
		if n < number {
			_ = os.Remove(statePath(s.dir, n))
		}
	}
	return nil
}

// due tells whether it is time to begin another file, and to complete it.
func (s *stateFile) due() (begin, complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin = s.file == nil || s.added > addedMost+2*s.written
	return begin, begin || !s.whole
}

func statePath(dir string, number int) string {
	return filepath.Join(dir, statePrefix+strconv.Itoa(number))
}

// stateFiles are the numbers of the files in dir, the oldest first.
func stateFiles(dir string) (numbers []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), statePrefix); ok {
			if n, err := strconv.Atoi(n); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// Restore applies what those who have served before have left: for a process
// that finds nobody alive. What another version has written in a form of its
// own is no error.
func (n *Node) Restore(state State) error { return n.restore(position{}, state) }

// restore applies what comes after a position.
func (n *Node) restore(after position, state State) error {
	numbers, err := stateFiles(n.config.Dir)
	for _, number := range numbers {
		from := 0
		switch {
		case number < after.number:
			continue
		case number == after.number:
			from = after.size
		}
		err = errors.Join(err, restore(statePath(n.config.Dir, number), from, state))
	}
	if err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	return nil
}

// Keep begins to keep the lasting records of state. It is called before this
// process serves: what no reader has seen need not be kept.
func (n *Node) Keep(state State) {
	if err := n.file.begin(); err != nil {
		n.config.Log.Warn("state would be lost with all processes", "error", err)
	}
	state.SetJournal(n.file.add)
}

func restore(path string, from int, state State) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(text, []byte(stateHeader)) {
		return nil
	}
	from = max(from, len(stateHeader))
	err = eachRecord(text[min(from, len(text)):], state.Apply)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // its writer died at it
	}
	return err
}
