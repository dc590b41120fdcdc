// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Record writes what podproc reads of a live machine as a txtar archive, for
// fusefs/testdata/machines:
//
//	go run ./test/record [--pid PID[,PID...]] > fusefs/testdata/machines/NAME.txtar
//	go test ./fusefs -run Machines -update
//
// The first line records: the host's files, and for each PID (a process in a
// container; default: this one) its place and the control files of its cgroups
// and of all above. The second adds what each of them must be shown; read it
// before you believe it. Run it as root on the node.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	pids := flags.String("pid", fmt.Sprint(os.Getpid()), "process to record, or several with commas")
	cgroup := flags.String("cgroup", "/sys/fs/cgroup", "where the cgroup hierarchies are mounted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := recorder{cgroup: *cgroup, files: map[string][]byte{}}
	for _, name := range []string{"proc/meminfo", "proc/cpuinfo", "proc/stat", "proc/swaps", "proc/uptime", "proc/loadavg", "proc/diskstats",
		"sys/devices/system/cpu/online"} {
		if err := r.copy(name, "/"+name); err != nil {
			return err
		}
	}
	for _, name := range []string{"proc/pressure/cpu", "proc/pressure/io", "proc/pressure/memory"} {
		_ = r.copy(name, "/"+name) // not where the kernel counts none
	}
	readers := strings.Split(*pids, ",")
	for _, pid := range readers {
		if err := r.process(pid); err != nil {
			return err
		}
	}
	comment, err := r.comment(readers)
	if err != nil {
		return err
	}
	_, err = stdout.Write(txtar.Format(r.archive(comment)))
	return err
}

// recorder gathers files by the name that they have in the archive.
type recorder struct {
	cgroup string
	files  map[string][]byte
}

func (r *recorder) comment(readers []string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return fmt.Sprintf("WHAT IS THIS MACHINE? Recorded on it.\n\nArch: %s\nKernel: %s\nReaders: %s\n",
		unix.ByteSliceToString(u.Machine[:]), unix.ByteSliceToString(u.Release[:]), strings.Join(readers, " ")), nil
}

// archive puts proc/ first, then sys/, then cgroup/.
func (r *recorder) archive(comment string) *txtar.Archive {
	a := &txtar.Archive{Comment: []byte(comment)}
	for name, text := range r.files {
		a.Files = append(a.Files, txtar.File{Name: name, Data: text})
	}
	rank := func(name string) int {
		top, _, _ := strings.Cut(name, "/")
		return slices.Index([]string{"proc", "sys", "cgroup"}, top)
	}
	slices.SortFunc(a.Files, func(a, b txtar.File) int {
		if d := rank(a.Name) - rank(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return a
}

func (r *recorder) copy(name, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r.files[name] = text
	return nil
}

func (r *recorder) link(name, path string) error {
	target, err := os.Readlink(path)
	r.files[name] = []byte("-> " + target + "\n")
	return err
}

// process records where a process is, and its cgroups.
func (r *recorder) process(pid string) error {
	proc, dir := "/proc/"+pid+"/", "proc/"+pid+"/"
	for _, name := range []string{"cgroup", "status", "stat", "task/" + pid + "/stat"} {
		if err := r.copy(dir+name, proc+name); err != nil {
			return err
		}
	}
	r.files[dir+"status"] = keep(r.files[dir+"status"], "Name:", "State:", "Tgid:", "Pid:", "NSpid:")
	if err := r.link(dir+"ns/pid", proc+"ns/pid"); err != nil {
		return err
	}
	for line := range strings.Lines(string(r.files[dir+"cgroup"])) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if err := r.hierarchy(controllers, path); err != nil {
			return err
		}
	}
	return nil
}

func keep(text []byte, keys ...string) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		if slices.ContainsFunc(keys, func(k string) bool { return bytes.HasPrefix(line, []byte(k)) }) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// hierarchy records the control files of a cgroup and of all above it, and
// the symlinks through which the hierarchy is found as well.
func (r *recorder) hierarchy(controllers, path string) error {
	root, err := r.root(controllers)
	if err != nil || root == "" {
		return err
	}
	for {
		if err := r.controlFiles(filepath.Join(root, path)); err != nil {
			return err
		}
		if path == "/" {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// root finds where a hierarchy is mounted, "" for one that podproc does not
// use.
func (r *recorder) root(controllers string) (string, error) {
	if controllers == "" {
		for _, dir := range []string{r.cgroup, filepath.Join(r.cgroup, "unified")} {
			if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
				return dir, nil
			}
		}
		return "", nil
	}
	for _, c := range strings.Split(controllers, ",") {
		if !slices.Contains([]string{"memory", "cpu", "cpuacct", "cpuset", "pids", "blkio"}, c) {
			continue
		}
		dir := filepath.Join(r.cgroup, c)
		switch target, err := os.Readlink(dir); {
		case err == nil:
			r.files["cgroup/"+c] = []byte("-> " + target + "\n")
			return filepath.Join(r.cgroup, target), nil
		case errors.Is(err, fs.ErrNotExist):
			dir = filepath.Join(r.cgroup, controllers)
		}
		return dir, nil
	}
	return "", nil
}

// controlFiles records the files of a cgroup that podproc reads, or may.
func (r *recorder) controlFiles(dir string) error {
	for _, pattern := range []string{
		"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs", "cgroup.threads", "tasks", "cgroup.type",
		"memory.max", "memory.high", "memory.current", "memory.stat", "memory.swap.max", "memory.swap.current",
		"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes",
		"cpu.max", "cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuacct.*",
		"cpuset.cpus", "cpuset.cpus.effective", "cpuset.effective_cpus",
		"pids.current", "io.stat", "blkio.throttle.io_serviced*", "blkio.throttle.io_service_bytes*",
		"cpu.pressure", "io.pressure", "memory.pressure",
	} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			rel, err := filepath.Rel(r.cgroup, path)
			if err != nil {
				return err
			}
			// Files that cannot be read at the moment (pressure switched
			// off) are as good as absent.
			_ = r.copy("cgroup/"+rel, path)
		}
	}
	return nil
}
