// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// option is a mount option; those without a value are flags.
type option struct{ name, value string }

// options are those of the file system. source and subtype come first.
func (p Point) options(dev *os.File, source string) []option {
	list := []option{
		{"source", source},
		{"subtype", subtype},
		{"fd", strconv.Itoa(descriptor(dev))},
		{"rootmode", rootmode},
		{"user_id", "0"},
		{"group_id", "0"},
		{"allow_other", ""},
		{"default_permissions", ""},
		{readOnly, ""},
	}
	if p.Context != "" {
		list = append(list, option{contextOption, p.Context})
	}
	return list
}

const (
	readOnly      = "ro" // MS_RDONLY for mount(2)
	contextOption = "context"
)

// failed is the error of the option.
func (o option) failed(err error) error {
	if o.name == contextOption {
		return fmt.Errorf("%w: %q: %w", ErrContext, o.value, err)
	}
	return fmt.Errorf("set option %s of file system: %w", o.name, err)
}

// superblock makes the file system, and returns it as a mount that is
// nowhere yet. ENOSYS before Linux 5.2; the file is nil with any error.
func superblock(options []option) (*os.File, error) {
	ctx, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system type fuse: %w", err)
	}
	defer unix.Close(ctx)
	for _, o := range options {
		if o.value == "" {
			err = unix.FsconfigSetFlag(ctx, o.name)
		} else {
			err = unix.FsconfigSetString(ctx, o.name, o.value)
		}
		if err != nil {
			return nil, o.failed(err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("create file system: %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount file system: %w", err)
	}
	return os.NewFile(uintptr(fd), options[0].value), nil
}

// rootmode is S_IFDIR in octal.
const rootmode = "40000"

// mountOld is superblock and attach in one, for Linux < 5.2.
func mountOld(options []option, dir string) error {
	source, data := old(options)
	err := unix.Mount(source, dir, "fuse."+subtype, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data)
	if last := options[len(options)-1]; err == unix.EINVAL && last.name == contextOption {
		return last.failed(err)
	}
	if err != nil {
		return fmt.Errorf("mount file system at %s: %w", dir, err)
	}
	return nil
}

// old writes options as mount(2) takes them.
func old(options []option) (source, data string) {
	var list []string
	for _, o := range options[2:] { // after source and subtype
		switch {
		case o.name == readOnly: // a flag there
		case o.value == "":
			list = append(list, o.name)
		case o.name == contextOption: // may hold commas
			list = append(list, o.name+`="`+o.value+`"`)
		default:
			list = append(list, o.name+"="+o.value)
		}
	}
	return options[0].value, strings.Join(list, ",")
}
