// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The state file: this line, then records.
const stateHeader = "podproc state 1\n"

// Save writes those records of the state that keep says are worth it to the
// directory, for a process that finds nobody alive.
func (n *Node) Save(state State, keep func(record []byte) bool) error {
	buf := []byte(stateHeader)
	state.Records(func(record []byte) {
		if keep(record) {
			buf = appendRecord(buf, record)
		}
	})
	path := filepath.Join(n.config.Dir, "state")
	if err := os.WriteFile(path+".new", buf, 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// Restore applies what was saved. A file that is missing, or that another
// version has written in a form of its own, is no error.
func (n *Node) Restore(state State) error {
	text, err := os.ReadFile(filepath.Join(n.config.Dir, "state"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	body, ok := bytes.CutPrefix(text, []byte(stateHeader))
	if !ok {
		return nil
	}
	if err := eachRecord(body, state.Apply); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	return nil
}
