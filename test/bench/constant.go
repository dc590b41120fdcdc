// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// constant serves the kernel's own texts of this moment at the directory that
// is its argument: what any FUSE file costs with go-fuse, done as FUSE files of
// changing content usually are, by direct I/O.
func constant() error {
	hour := time.Hour
	server, err := fs.Mount(os.Args[1], &constantRoot{}, &fs.Options{
		EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{DirectMount: true, AllowOther: true, FsName: "constant", Name: "bench"},
	})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("ready")
	<-stop
	return server.Unmount()
}

type constantRoot struct{ fs.Inode }

var _ fs.NodeOnAdder = (*constantRoot)(nil)

func (r *constantRoot) OnAdd(ctx context.Context) {
	for _, file := range files {
		text, err := os.ReadFile(file.kernel)
		if err != nil {
			panic(err) // a kernel without /proc/stat
		}
		at := &r.Inode
		parts := strings.Split(file.path, "/")
		last := len(parts) - 1
		for _, name := range parts[:last] {
			next := at.GetChild(name)
			if next == nil {
				next = r.NewPersistentInode(ctx, &fs.Inode{}, fs.StableAttr{Mode: syscall.S_IFDIR})
				at.AddChild(name, next, true)
			}
			at = next
		}
		at.AddChild(parts[last], r.NewPersistentInode(ctx, &constantFile{text: text}, fs.StableAttr{}), true)
	}
}

type constantFile struct {
	fs.Inode
	text []byte
}

var (
	_ fs.NodeGetattrer = (*constantFile)(nil)
	_ fs.NodeOpener    = (*constantFile)(nil)
	_ fs.NodeReader    = (*constantFile)(nil)
)

func (f *constantFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o444, uint64(len(f.text))
	return fs.OK
}

func (f *constantFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, fs.OK
}

func (f *constantFile) Read(_ context.Context, _ fs.FileHandle, dst []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	start := min(off, int64(len(f.text)))
	end := min(start+int64(len(dst)), int64(len(f.text)))
	return fuse.ReadResultData(f.text[start:end]), fs.OK
}
