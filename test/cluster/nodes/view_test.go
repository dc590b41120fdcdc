// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// look prints what programs in a container see, one "name=value" a line.
const look = `
echo meminfo=$(awk '/^MemTotal:/{print $2}' /proc/meminfo)
echo free=$(free -k | awk '/^Mem:/{print $2}')
echo used=$(free -k | awk '/^Mem:/{print $3}')
echo vmstat=$(vmstat -s | awk '/total memory/{print $1}')
echo top=$(TERM=xterm top -b -n1 | awk '/^MiB Mem/{print $4}')
echo online=$(cat /sys/devices/system/cpu/online)
echo getconf=$(getconf _NPROCESSORS_ONLN)
echo cpuinfo=$(grep -c ^processor /proc/cpuinfo)
echo stat=$(grep -c '^cpu[0-9]' /proc/stat)
echo mounts=$(grep -c ' - fuse.podproc ' /proc/self/mountinfo)
`

// lookMore takes seconds of CPU.
const lookMore = look + `
echo psutil=$(python3 -c 'import psutil; print(psutil.virtual_memory().total >> 10, psutil.cpu_count())')
echo node=$(node -e 'const os = require("os"); console.log(os.totalmem() >> 10, os.cpus().length)')
`

// view is what look prints.
type view map[string]string

// limited is the view of a container with these limits.
func limited(memoryKiB, cpus int) view {
	online := "0"
	if cpus > 1 {
		online = fmt.Sprintf("0-%d", cpus-1)
	}
	n, memory := strconv.Itoa(cpus), strconv.Itoa(memoryKiB)
	return view{
		"meminfo": memory, "free": memory, "vmstat": memory, "top": fmt.Sprintf("%.1f", float64(memoryKiB)/1024),
		"online": online, "getconf": n, "cpuinfo": n, "stat": n, "mounts": "5",
	}
}

// exec runs a script in a container and returns what it printed.
func (c *fixture) exec(pod, container, namespace, script string) string {
	c.t.Helper()
	return c.kubectl("exec", pod, "-n", namespace, "-c", container, "--", "bash", "-c", script)
}

func (c *fixture) view(pod, container, namespace, script string) view {
	c.t.Helper()
	return parse(c.exec(pod, container, namespace, script))
}

func parse(text string) view {
	v := make(view)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[name] = value
		}
	}
	return v
}

// want compares those values that are wanted.
func (c *fixture) want(where string, got, want view) {
	c.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			c.t.Errorf("%s: %s sees %q, want %q", where, name, got[name], want[name])
		}
	}
	used, err := strconv.Atoi(got["used"])
	total, err2 := strconv.Atoi(got["free"])
	if err != nil || err2 != nil || used > total {
		c.t.Errorf("%s: free sees %s used of %s", where, got["used"], got["free"])
	}
}
