// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"encoding/binary"
	"testing"
)

func TestOperation(t *testing.T) {
	req := make([]byte, inHeaderSize)
	for code, want := range map[uint32]string{15: "READ", 42: "BATCH_FORGET", 4096: "operation 4096"} {
		binary.NativeEndian.PutUint32(req[4:], code)
		if got := operation(req); got != want {
			t.Errorf("operation %d is called %q, want %q", code, got, want)
		}
	}
}
