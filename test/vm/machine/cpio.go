// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"io"
	"os"
)

// cpio writes the "newc" archives that the kernel unpacks as its initramfs.
type cpio struct {
	w   io.Writer
	ino int
}

// dir adds a directory; its parents come first.
func (c *cpio) dir(name string) error { return c.entry(name, 0o040755, nil) }

// file adds the content of the host's file as name.
func (c *cpio) file(name, host string) error {
	data, err := os.ReadFile(host)
	if err != nil {
		return err
	}
	return c.entry(name, 0o100755, data)
}

func (c *cpio) close() error { return c.entry("TRAILER!!!", 0, nil) }

func (c *cpio) entry(name string, mode int, data []byte) error {
	c.ino++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, part := range [][]byte{[]byte(header), data} {
		if _, err := c.w.Write(part); err != nil {
			return err
		}
		if _, err := c.w.Write(make([]byte, (4-len(part)%4)%4)); err != nil {
			return err
		}
	}
	return nil
}
