// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/podproc/podproc/fusefs/device"
	"github.com/podproc/podproc/fusefs/mounts"
)

// Server is an FS on a connection that this process serves.
type Server struct {
	FS   *FS
	Conn *device.Conn
	At   mounts.Point

	stop context.CancelFunc
	done chan struct{}
	err  error
}

// DeviceConfig is how fs wants its connection to be served.
func (fs *FS) DeviceConfig() device.Config {
	return device.Config{
		FS: fs, Late: Late{fs}, Log: fs.log,
		Panics:  func() { fs.Stats.Panics.Add(1) },
		Overdue: func() { fs.Stats.Overdue.Add(1) },
	}
}

// Mount makes a file system of fs, mounts it at the point and serves it. A
// podproc mount that is there is detached first, dead or alive.
func Mount(fs *FS, at mounts.Point) (*Server, error) { return mount(fs, at, at.Mount) }

// Replace is Mount beside a podproc mount whose server lives and goes on with
// what it has mounted elsewhere.
func Replace(fs *FS, at mounts.Point) (*Server, error) { return mount(fs, at, at.Replace) }

func mount(fs *FS, at mounts.Point, attach func(*os.File) error) (*Server, error) {
	dev, err := device.Open()
	if err != nil {
		return nil, err
	}
	if err := attach(dev); err != nil {
		dev.Close()
		return nil, err
	}
	conn, err := device.Start(dev, fs.DeviceConfig())
	if err != nil {
		dev.Close()
		_ = at.Unmount()
		return nil, fmt.Errorf("serve %s: %w", at.Dir, err)
	}
	return Serve(fs, conn, at), nil
}

// Serve serves fs on a connection that is mounted at the point already.
func Serve(fs *FS, conn *device.Conn, at mounts.Point) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{FS: fs, Conn: conn, At: at, stop: stop, done: make(chan struct{})}
	go fs.Run(ctx, conn.Drop)
	go func() {
		s.err = conn.Serve()
		close(s.done)
	}()
	return s
}

// Done is closed when nothing is served any more; Err says why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is nil if the file system was unmounted. It may be called after Done.
func (s *Server) Err() error { return s.err }

// Unmount ends it all: the mount is detached, and where nobody holds it any
// more, in a container or by an open file, the connection ends. Others may
// hold it for ever, so it waits for a moment only.
func (s *Server) Unmount() error {
	err := s.At.Unmount()
	s.stop()
	select {
	case <-s.done:
		return s.FS.Close()
	case <-time.After(100 * time.Millisecond):
		return err
	}
}
