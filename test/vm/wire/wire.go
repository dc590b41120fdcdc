// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire is what the host and the VM's init say to each other: the host
// leaves a Task on the payload disk, and the guest answers with Events, one
// JSON object a line, on a virtio serial port.
package wire

import "time"

// Places that both sides know.
const (
	Payload  = "/payload"             // where the payload disk is mounted
	TaskFile = Payload + "/task.json" // a Task
	Port     = "org.podproc.events"   // name of the serial port
	Modules  = "/lib/modules/boot"    // kernel modules, to load in the order of their names
)

// CgroupEnv is a kernel parameter, and so a variable of init's environment: one
// of the modes.
const (
	CgroupEnv = "PODPROC_CGROUP"
	V2        = "v2" // the default: nothing but cgroup v2
	V1        = "v1"
	Hybrid    = "hybrid" // v1, and a v2 hierarchy without controllers
)

// Task is all that a VM is started for.
type Task struct {
	Mounts []Mount // further disks
	Swap   string  // a device to swap on, or none
	Shell  bool    // a shell on the console instead of Jobs
	Jobs   []Job   // run one after the other, whatever becomes of them
}

// Mount is an ext4 disk and its place in the guest.
type Mount struct{ Device, Dir string }

// Job is one command.
type Job struct {
	Dir  string // working directory
	Env  []string
	Args []string
	// Limit ends a hung command: its tasks' stacks go to the console, then it
	// gets SIGQUIT and, 5 s later, SIGKILL. 0: none.
	Limit time.Duration
}

// Event is a piece of a job's output, or its end, or that the guest is up.
type Event struct {
	Up     bool `json:",omitempty"` // before the first job, in each boot
	Job    int
	Output []byte        `json:",omitempty"`
	Done   bool          `json:",omitempty"`
	Exit   int           `json:",omitempty"` // exit status, 128+N after signal N, 124 after Limit
	Took   time.Duration `json:",omitempty"`
}
