// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import "strconv"

// The kernel's requests (include/uapi/linux/fuse.h) that are treated in a way of
// their own.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opRead        = 15
	opInterrupt   = 36
	opBatchForget = 42
)

// operations are the names of all of them, for people.
var operations = map[uint32]string{
	opLookup: "LOOKUP", opForget: "FORGET", opGetattr: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
	10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", opRead: "READ", 16: "WRITE", 17: "STATFS", 18: "RELEASE",
	20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH", 26: "INIT",
	27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 31: "GETLK", 32: "SETLK", 33: "SETLKW",
	34: "ACCESS", 35: "CREATE", opInterrupt: "INTERRUPT", 37: "BMAP", 38: "DESTROY", 39: "IOCTL", 40: "POLL",
	41: "NOTIFY_REPLY", opBatchForget: "BATCH_FORGET", 43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK",
	47: "COPY_FILE_RANGE", 48: "SETUPMAPPING", 49: "REMOVEMAPPING", 50: "SYNCFS", 51: "TMPFILE", 52: "STATX",
}

// operation names what a request asks for.
func operation(req []byte) string {
	code := opcode(req)
	if name, ok := operations[code]; ok {
		return name
	}
	return "operation " + strconv.FormatUint(uint64(code), 10)
}
