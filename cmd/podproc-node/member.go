// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/device"
	"github.com/podproc/podproc/fusefs/mounts"
	"github.com/podproc/podproc/fusefs/takeover"
)

// steppedBack tells a process that has served before, and that a newer one
// does by now.
const steppedBack = "PODPROC_STEPPED_BACK"

// member is a process that shares a control directory with others.
type member struct {
	o       *options
	log     *slog.Logger
	stdout  io.Writer
	at      mounts.Point
	node    *takeover.Node
	monitor *monitor

	fs       *fusefs.FS
	paths    map[uint8]string // of this version and of those before
	server   atomic.Pointer[fusefs.Server]
	released atomic.Bool
}

// stuckAfter is the age of a request that was answered neither well nor late
// at which the process is given up.
const stuckAfter = 15 * time.Second

// alive tells whether this process answers requests.
func (m *member) alive() bool {
	s := m.server.Load()
	return s == nil || s.Conn.Oldest() < stuckAfter
}

// share serves together with the other processes of the control directory.
func share(ctx context.Context, o *options, stdout io.Writer, log *slog.Logger) error {
	m := &member{o: o, log: log, stdout: stdout, at: o.point(), monitor: newMonitor()}
	if err := m.monitor.serve(ctx, o.metricsAddr, log); err != nil {
		return err
	}
	var err error
	m.node, err = takeover.Open(takeover.Config{
		Dir: o.ctl, Standby: m.standby(), Version: version, Silence: o.silence, Alive: m.alive, Lasting: fusefs.Lasting, Log: log,
	})
	if err != nil {
		return fmt.Errorf("%w: say with --ctl where the processes of this node meet", err)
	}
	peer, err := m.node.Join(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case peer == nil:
		return m.first(ctx)
	}
	return m.follow(ctx, peer)
}

// first makes a connection: nobody else has one.
func (m *member) first(ctx context.Context) error {
	if err := m.create(nil); err != nil {
		return err
	}
	if err := m.node.Restore(m.fs); err != nil {
		m.log.Warn("counters start anew", "error", err)
	}
	m.node.Keep(m.fs)
	if err := m.at.Kernel(m.files()); err != nil {
		return err
	}
	server, err := fusefs.Mount(m.fs, m.at)
	if err != nil {
		return explain(err)
	}
	if err := selfTest(ctx, m.fs, m.at); err != nil {
		_ = server.Unmount()
		return err
	}
	return m.lead(ctx, server, takeover.First, time.Now())
}

// follow waits for the turn of this process.
func (m *member) follow(ctx context.Context, peer *takeover.Peer) error {
	if err := m.create(peer.Paths); err != nil {
		return err
	}
	conn, err := device.Adopt(peer.Handover, m.fs.DeviceConfig())
	foreign := errors.Is(err, device.ErrMismatch)
	if err != nil && !foreign {
		return err
	}
	following, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		select {
		case <-peer.Synced():
			m.monitor.setReady(nil)
			fmt.Fprintln(m.stdout, "joined")
		case <-following.Done():
		}
	}()
	cause, next, err := peer.Follow(ctx, m.fs)
	stop()
	<-told // not after what comes next
	switch {
	case errors.Is(err, takeover.ErrLeft):
		return nil
	case err != nil:
		return err
	case next != nil:
		// What is known is of a process that has been left behind.
		return again(false)
	}
	m.node.Keep(m.fs)
	server, since := fusefs.Serve(m.fs, conn, m.at), peer.Since
	m.monitor.replayed.Add(uint64(peer.Replay(conn)))
	if foreign {
		if server, err = m.remount(); err != nil {
			return err
		}
		since = time.Now()
	}
	return m.lead(ctx, server, cause, since)
}

func (m *member) standby() bool { return m.o.standby || os.Getenv(steppedBack) != "" }

// remount replaces a connection that cannot be handed over by one of this
// version's, in running containers too. This process serves the old one for
// as long as somebody has a file of it open.
func (m *member) remount() (*fusefs.Server, error) {
	m.log.Info("another version has mounted with other FUSE options: mounting afresh")
	server, err := fusefs.Replace(m.fs, m.at)
	if err != nil {
		return nil, explain(err)
	}
	m.repairNow()
	return server, nil
}

// create makes the file system. paths are the files of the process before.
func (m *member) create(paths map[uint8]string) (err error) {
	m.paths = fusefs.Paths()
	for index, path := range paths {
		if m.paths[index] == "" {
			m.paths[index] = path
		}
	}
	o := m.o
	m.fs, err = fusefs.New(fusefs.Config{Proc: o.proc, Sys: o.sys, Cgroup: o.cgroup, Freshness: o.freshness, Foreign: paths, Log: m.log})
	if err == nil {
		m.monitor.watch(m.fs)
	}
	return err
}

// lead serves until somebody else does, or the last one is to end.
func (m *member) lead(ctx context.Context, server *fusefs.Server, cause takeover.Cause, since time.Time) error {
	l, err := m.node.Lead(takeover.Connection{Handover: server.Conn.Handover(), Paths: m.paths, Since: since}, m.fs)
	if err != nil {
		return err
	}
	m.server.Store(server)
	m.monitor.leads(l, cause, since)
	m.monitor.setReady(nil)
	m.log.Info("serving", "cause", cause, "mount", m.o.mount, "cgroups", m.fs.Mode(), "version", version)
	fmt.Fprintln(m.stdout, "ready")
	work, stop := context.WithCancel(ctx)
	defer stop()
	go m.repair(work)
	ended := make(chan struct{})
	go func() {
		<-server.Done()
		close(ended)
		m.linger(ctx)
		l.Close()
	}()
	outcome := l.Run(ctx, m.o.grace, server.Conn, m.release)
	stop()
	switch outcome {
	case takeover.SteppedBack:
		// From here on a signal ends the process, but one that has come a
		// moment ago may still be on its way to ctx.
		signal.Reset(unix.SIGTERM, unix.SIGINT)
		time.Sleep(5 * time.Millisecond)
		if ctx.Err() == nil {
			return again(true)
		}
	case takeover.Alone:
		if !m.released.Load() {
			m.suspend()
		}
		_ = server.Unmount()
	}
	select {
	case <-ended:
		return server.Err()
	default:
		return nil
	}
}

// linger waits when the connection has ended: for the end of the process, if
// podproc is being removed, and else only so long that a start does not
// follow the other too fast.
func (m *member) linger(ctx context.Context) {
	if m.released.Load() {
		<-ctx.Done()
		return
	}
	m.log.Warn("the file system is mounted nowhere any more: starting again soon")
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
	}
}

// again executes the program anew, which ends all threads that may still wait
// for requests.
func again(back bool) error {
	env := os.Environ()
	if back {
		env = append(env, steppedBack+"=1")
	}
	err := unix.Exec("/proc/self/exe", os.Args, env)
	return fmt.Errorf("execute podproc-node again: %w", err)
}

// files are the paths of all files, relative to the root of the tree.
func (m *member) files() (list []string) {
	for _, path := range m.paths {
		list = append(list, strings.TrimPrefix(path, "/"))
	}
	slices.Sort(list)
	return list
}

func (o *options) point() mounts.Point {
	return mounts.Point{Namespace: o.namespace, Dir: path.Clean(o.mount), Context: o.selinuxContext}
}

func (m *member) tree() mounts.Tree {
	return mounts.Tree{Point: m.at, Proc: m.o.proc, Files: m.files(), Log: m.log}
}

// repair looks after running containers: at once, and some more times for
// those that were just starting.
func (m *member) repair(ctx context.Context) {
	for wait := time.Second; ctx.Err() == nil && !m.released.Load() && wait < time.Minute; wait *= 2 {
		m.repairNow()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (m *member) repairNow() {
	r, err := m.tree().Repair()
	if err != nil && !m.released.Load() {
		m.log.Error("running containers cannot be repaired", "error", err)
	}
	m.monitor.repaired.Add(uint64(r.Repaired))
	m.monitor.unrepaired.Add(uint64(r.Failed))
	if r != (mounts.Result{}) {
		m.log.Info("repaired running containers", "repaired", r.Repaired, "detached", r.Detached, "failed", r.Failed)
	}
}

// suspend gives running containers the kernel's files, until somebody serves
// again: in an update of a node without a standby, say.
func (m *member) suspend() {
	m.released.Store(true)
	r, err := m.tree().Suspend()
	if err != nil {
		m.log.Error("running containers do not get the kernel's files", "error", err)
	}
	m.log.Info("nobody serves from here on: running containers see the kernel's files", "mounts", r.Detached, "failed", r.Failed)
	time.Sleep(lastReads)
}

// lastReads is for readers that have opened a file a moment ago.
const lastReads = 200 * time.Millisecond

// released is what the command release is told.
type released struct {
	mounts.Result
	Error string
}

// release takes podproc out of all containers.
func (m *member) release() any {
	m.released.Store(true)
	r, err := m.tree().Release()
	m.log.Info("released running containers", "detached", r.Detached, "failed", r.Failed)
	if err != nil {
		m.log.Error("release", "error", err)
		return released{r, err.Error()}
	}
	time.Sleep(lastReads)
	return released{Result: r}
}
