// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Resend asks the kernel to send again all requests that are read and not
// answered (FUSE_NOTIFY_RESEND, Linux >= 6.9; EINVAL before).
func (c *Conn) Resend() error {
	msg := errorReply(nil, 0, 0)
	putU32(msg[4:], notifyResend)
	if _, err := unix.Write(c.fd, msg); err != nil {
		return fmt.Errorf("ask for unanswered requests: %w", err)
	}
	return nil
}

// Drop asks the kernel to forget the entry name of directory parent
// (FUSE_NOTIFY_INVAL_ENTRY). Who uses the file goes on doing so. It waits for
// a LOOKUP in parent that is under way, so a handler must not call it. ENOENT:
// the kernel knows no such entry.
func (c *Conn) Drop(parent uint64, name string) error {
	msg := binary.NativeEndian.AppendUint64(errorReply(nil, 0, 0), parent)
	msg = binary.NativeEndian.AppendUint32(msg, uint32(len(name)))
	msg = binary.NativeEndian.AppendUint32(msg, 0)
	msg = append(append(msg, name...), 0)
	putU32(msg, uint32(len(msg)))
	putU32(msg[4:], notifyInvalEntry)
	if _, err := unix.Write(c.fd, msg); err != nil {
		return fmt.Errorf("drop entry %s: %w", name, err)
	}
	return nil
}
