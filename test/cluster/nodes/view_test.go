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

// look prints what programs in a container see, one "name=value" a line. Few
// processes: a container with half of an emulated CPU takes a second for ten.
const look = `awk '
	FILENAME == "/proc/meminfo" && /^MemTotal:/ { print "meminfo=" $2 }
	FILENAME == "/proc/cpuinfo" && /^processor/ { cpuinfo++ }
	FILENAME == "/proc/stat" && /^cpu[0-9]/ { stat++ }
	FILENAME == "/proc/self/mountinfo" && / - fuse.podproc / { mounts++ }
	FILENAME ~ /online$/ { print "online=" $0 }
	END { print "cpuinfo=" cpuinfo; print "stat=" stat; print "mounts=" 0 + mounts }
	' /proc/meminfo /proc/cpuinfo /proc/stat /proc/self/mountinfo /sys/devices/system/cpu/online
free -k | awk '/^Mem:/ { print "free=" $2; print "used=" $3 }'
echo getconf=$(getconf _NPROCESSORS_ONLN)
echo looked=yes
`

// lookMore asks every program. A JVM says what it takes for the machine; the
// rest of it is as cheap as can be.
const lookMore = `
vmstat -s | awk '/total memory/ { print "vmstat=" $1 }'
TERM=xterm top -b -n1 | awk '/^MiB Mem/ { print "top=" $4 }'
echo psutil=$(python3 -c 'import psutil; print(psutil.virtual_memory().total >> 10, psutil.cpu_count())')
echo node=$(node -e 'const os = require("os"); console.log(os.totalmem() >> 10, os.cpus().length)')
jvm() { java "$@" -Xint -XX:+UseSerialGC -Xlog:gc+init -version 2> /dev/null | awk '/CPUs:/ { cpus = $(NF - 1) } /Memory:/ { memory = $NF } END { print memory, cpus }'; }
echo java=$(jvm -XX:+UseContainerSupport)
echo java-blind=$(jvm -XX:-UseContainerSupport)
` + look

// lookAsked looks at what is served on request, too: of a container that has
// just been started, on a node that is older and does much.
const lookAsked = `
awk '
	FILENAME == "/proc/1/stat" { first = $22 / 100 }
	FILENAME == "/proc/self/stat" { age = $22 / 100 - first }
	FILENAME == "/proc/uptime" { print "uptime=" ($1 < age + 30 ? "its own" : $1 " of " age) }
	FILENAME == "/proc/loadavg" { print "loadavg=" ($1 < 0.2 + 2 * (1 - exp(-(age + 5) / 60)) && NF == 5 ? "its own" : $0) }
	' /proc/1/stat /proc/self/stat /proc/uptime /proc/loadavg
cat /proc/diskstats > /dev/null && echo diskstats=read
` + look

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
		"meminfo": memory, "free": memory,
		"online": online, "getconf": n, "cpuinfo": n, "stat": n, "mounts": "5",
	}
}

// exec runs a script in a container and returns what it printed.
func (c *fixture) exec(pod, container, namespace, script string) string {
	c.t.Helper()
	return c.kubectl("exec", pod, "-n", namespace, "-c", container, "--", "bash", "-c", script)
}

// looked waits for what a container of lookers has seen when it started.
func (c *fixture) looked(pod, container, namespace string) (v view) {
	c.t.Helper()
	c.eventually(pod+" has looked", func() (bool, string) {
		v = parse(c.kubectl("logs", pod, "-n", namespace, "-c", container))
		return v["looked"] != "", fmt.Sprint(v)
	})
	return v
}

func (c *fixture) view(pod, container, namespace, script string) view {
	c.t.Helper()
	return parse(c.exec(pod, container, namespace, script))
}

// parse also keeps, as "said", what else there is: errors of the programs.
func parse(text string) view {
	v := make(view)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[name] = value
		} else {
			v["said"] += line
		}
	}
	return v
}

// want compares those values that are wanted.
func (c *fixture) want(where string, got, want view) {
	c.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			c.t.Errorf("%s: %s sees %q, want %q; programs said %q", where, name, got[name], want[name], got["said"])
		}
	}
	used, err := strconv.Atoi(got["used"])
	total, err2 := strconv.Atoi(got["free"])
	if err != nil || err2 != nil || used > total {
		c.t.Errorf("%s: free sees %s used of %s", where, got["used"], got["free"])
	}
}
