// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package takeover passes a live FUSE connection from process to process, so
// that no reader notices when one of them ends.
//
// A connection lives as long as any process holds its descriptor. Of the
// processes that do, one is active: it serves, lets others join, and sends
// them every change of its state before a reader can see what comes of it.
// Everybody else waits with descriptor and state in hand. When the active
// one dies, its socket ends and the first to get the lock serves. When it is
// silent for a second, who notices serves at once, without the lock, and
// kills the silent one. When it is asked to (a newer process has come, or it
// is to end), it answers what it has begun, says so and steps back. Requests
// that it has read by then and not answered are in memory that the successor
// has too (package device).
//
// The directory that the processes share holds
//
//	serving.lock  held by who serves, or is about to
//	holder.lock   held shared by all who hold the connection: nobody makes a
//	              new one while that is held
//	sock          of who serves; only root may connect
//	state.1 ...   what is worth keeping when all of them are gone
//
// Serving twice for a moment is harmless, for readers of podproc change
// nothing; state is sent by one only.
//
// The package does not know what the state means, and does not mount.
package takeover

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/device"
)

// Config says who this process is.
type Config struct {
	// Dir is the directory shared by the processes of one file system. It is
	// made if it is missing, for root alone.
	Dir string
	// Standby waits for an active process, and neither makes a connection
	// nor takes one from a process that is well.
	Standby bool
	// Version is told to the others, for their log.
	Version string

	Beat    time.Duration // between signs of life; 0 is 100 ms
	Silence time.Duration // after which the active one is given up; 0 is 1 s
	// Patience is how long a process that holds the connection alone, and
	// does not answer, is waited for before it is killed and a new connection
	// is made; 0 is 20 s.
	Patience time.Duration
	// Alive tells whether this process, while it serves, does so; a process
	// that does not is silent. It must not block. Default: always.
	Alive func() bool
	// Lasting tells which records are of use when all processes are gone, and
	// the connection with them. They are kept in a file. Default: none.
	Lasting func(record []byte) bool
	Log     *slog.Logger // default: discards
}

// State is what crosses beside the connection: records, each of which says
// all that there is to know of its subject.
type State interface {
	// Records yields the whole state. yield does not block, and does not
	// keep the record. Nobody is told of a change of what a record is about
	// while it is yielded.
	Records(yield func(record []byte))
	// SetJournal sets who is told of every change: before a reader can see
	// what comes of it. f is as yield.
	SetJournal(f func(record []byte))
	// Apply takes over a record of another process.
	Apply(record []byte) error
}

// Connection is what a process needs to go on with a connection.
type Connection struct {
	device.Handover
	// Paths are the files that the kernel may know, by index.
	Paths map[uint8]string
	// Since is when the connection was made.
	Since time.Time
}

// Node is a process that takes part.
type Node struct {
	config Config
	dir    *os.File
	file   stateFile
	// held in this order, where both are
	serving, holder *lock
}

// Open prepares to take part.
func Open(config Config) (*Node, error) {
	for d, v := range map[*time.Duration]time.Duration{&config.Beat: 100 * time.Millisecond, &config.Silence: time.Second, &config.Patience: 20 * time.Second} {
		if *d == 0 {
			*d = v
		}
	}
	if config.Alive == nil {
		config.Alive = func() bool { return true }
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make control directory: %w", err)
	}
	dir, err := os.Open(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("open control directory: %w", err)
	}
	n := &Node{config: config, dir: dir, file: stateFile{dir: config.Dir, keep: config.Lasting}}
	if n.serving, err = openLock(filepath.Join(config.Dir, "serving.lock")); err == nil {
		n.holder, err = openLock(filepath.Join(config.Dir, "holder.lock"))
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close leaves: locks fall free.
func (n *Node) Close() {
	n.dir.Close()
	for _, l := range []*lock{n.serving, n.holder} {
		if l != nil {
			l.file.Close()
		}
	}
}

// socket is the path of a socket in the directory: by the descriptor of the
// directory, since a socket's address has room for 107 bytes only.
func (n *Node) socket(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(n.dir.Fd())) + "/" + name
}

// lock is an flock(2) lock.
type lock struct{ file *os.File }

func openLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return &lock{f}, nil
}

// try gets the lock, LOCK_EX or LOCK_SH, if nobody else is in the way. An
// error other than false is one of the file system.
func (l *lock) try(how int) bool {
	for {
		err := unix.Flock(int(l.file.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

func (l *lock) release() { _ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN) }
