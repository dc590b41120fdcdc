// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/webhook/inject"
)

const runHelp = `podproc run [flags] -- CMD [ARG...]

Runs CMD as a container: in a cgroup of its own with these limits, with pid and
mount namespaces and a /proc of its own, where the files of --files show the
container instead of the machine. Standard input and output, the terminal, the
environment and the root directory stay as they are. Signals are passed on.

Nothing is left behind: when CMD ends, whatever else runs in the container is
killed, and when podproc is killed, so is CMD. Needs root.

Examples:
  podproc run --memory 256Mi --cpus 1 -- free -m
  podproc run --cpus 1.5 -- grep -c ^processor /proc/cpuinfo
  podproc run --cpuset 0-1 --memory 1Gi -- top
  podproc run --memory 1Gi --files default,loadavg -- bash
  podproc run --fs /run/podproc/fs --memory 256Mi -- free -m   files of a running podproc-node

Exit status: that of CMD; 128+N if signal N ended it; 127 if CMD was not found,
126 if it cannot be executed; 125 if podproc could not make the container; 2
for wrong usage.
`

// period is the kernel's own default for cpu.max and cpu.cfs_period_us, in us.
const period = 100_000

// options are the flags of run.
type options struct {
	memory  int64 // bytes; 0: no limit
	quota   int64 // us of CPU time in each period; 0: no limit
	cpuset  string
	files   []string // paths from the root of podproc's tree
	fs      string   // an already served tree; "": serve one
	parent  string   // cgroup to be under
	command []string
}

func parseRun(args []string, stdout io.Writer) (*options, error) {
	var o options
	f := flag.NewFlagSet("podproc run", flag.ContinueOnError)
	f.Func("memory", "limit of memory, a Kubernetes `QUANTITY`: 256Mi, 1.5Gi, 500M", func(s string) (err error) {
		o.memory, err = parseMemory(s)
		return err
	})
	f.Func("cpus", "limit of CPU time, a Kubernetes `QUANTITY`: 2, 1.5, 500m", func(s string) (err error) {
		o.quota, err = parseCPUs(s)
		return err
	})
	f.StringVar(&o.cpuset, "cpuset", "", "`LIST` of the CPUs to run on: 0-1, 0,2")
	files := f.String("files", "default", "`LIST` of the files that show the container: "+strings.Join(fileNames(), ", ")+"; default means "+strings.Join(inject.DefaultFiles(), ","))
	f.StringVar(&o.fs, "fs", "", "`DIR` where a podproc-node serves already; its numbers, counters and restarts are then that one's")
	f.StringVar(&o.parent, "cgroup-parent", "/", "`PATH` of the cgroup to make the container's in; its limits count too")
	if err := command.Parse(f, args, runHelp, stdout); err != nil {
		return nil, err
	}
	o.command = f.Args()
	if len(o.command) == 0 {
		return nil, command.Usagef("no command to run; say podproc run [flags] -- CMD [ARG...]")
	}
	if err := checkCpuset(o.cpuset); err != nil {
		return nil, command.Usagef("--cpuset %s: %w", o.cpuset, err)
	}
	if !filepath.IsAbs(o.parent) {
		return nil, command.Usagef("--cgroup-parent %s: say the path from the root of the cgroup hierarchy, as /proc/PID/cgroup does: /user.slice", o.parent)
	}
	o.parent = filepath.Clean(o.parent)
	if o.fs != "" {
		o.fs = filepath.Clean(o.fs)
	}
	var err error
	o.files, err = parseFiles(*files, o.fs != "")
	return &o, err
}

func parseMemory(s string) (int64, error) {
	q, err := resource.ParseQuantity(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("write it as Kubernetes does: 256Mi, 1.5Gi, 500M")
	case q.Value() < 1<<20:
		return 0, fmt.Errorf("no process can start in %d bytes; 256Mi are 256 MiB, 500M are 500 MB", q.Value())
	}
	return q.Value(), nil
}

// parseCPUs returns microseconds in each period. The kernel's smallest quota is 1 ms.
func parseCPUs(s string) (int64, error) {
	q, err := resource.ParseQuantity(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("write it as Kubernetes does: 2, 1.5, 500m")
	case q.MilliValue() < 10:
		return 0, fmt.Errorf("the kernel's smallest limit is 10m, a hundredth of a CPU")
	case q.Value() > 1<<20:
		return 0, fmt.Errorf("no machine has that many CPUs")
	}
	return q.MilliValue() * period / 1000, nil
}

// checkCpuset accepts the kernel's list format; whether the CPUs exist, the
// kernel says.
func checkCpuset(s string) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return fmt.Errorf("write a list of CPUs: 0-1, 0,2")
		}
	}
	return nil
}

// fileNames are what --files and podproc.io/files call the files.
func fileNames() []string {
	var names []string
	for _, path := range fusefs.Paths() {
		names = append(names, fileName(path))
	}
	slices.Sort(names)
	return names
}

func fileName(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "/proc/"), "/sys/devices/system/")
}

// parseFiles returns paths from the root of the tree, each once. A tree that
// another program serves may have other files than this one knows.
func parseFiles(list string, foreign bool) ([]string, error) {
	known := map[string]string{}
	for _, path := range fusefs.Paths() {
		known[fileName(path)] = strings.TrimPrefix(path, "/")
	}
	set := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		names := []string{strings.TrimSpace(name)}
		if names[0] == "default" {
			names = inject.DefaultFiles()
		}
		for _, name := range names {
			path, ok := known[name]
			if !ok && foreign && name != "" && filepath.IsLocal(name) {
				path, ok = "proc/"+name, true
			}
			if !ok {
				return nil, command.Usagef("--files: there is no file %q; known are default, %s", name, strings.Join(fileNames(), ", "))
			}
			set[path] = true
		}
	}
	return slices.Sorted(maps.Keys(set)), nil
}
