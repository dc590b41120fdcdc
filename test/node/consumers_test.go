// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	_ "embed"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the table of consumers into README.md")

// view is what a program shows of something.
type view string

const (
	own     view = "the container" // its limit
	itself  view = "the container, by itself"
	host    view = "the machine"
	nothing view = "" // it does not show that
)

// consumer is a program that reads what podproc serves. It runs in a container
// of 256 MiB and one CPU.
type consumer struct {
	name    string   // in the README
	needs   []string // programs, by their names
	command string   // says what it sees
	screen  bool     // it needs a terminal

	// memory and cpus find the numbers in the output: memory in the unit of
	// bytes that is given.
	memory, cpus       *regexp.Regexp
	unit               float64
	showsMem, showsCPU view
	note               string // in the README

	// usage says how busy the CPUs are, in percent, over an interval; idle
	// tells that usage finds how idle they are.
	load     string
	usage    *regexp.Regexp
	idle     bool
	interval time.Duration
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

const (
	kib = 1 << 10
	mib = 1 << 20
)

// consumers is the table that the README shows.
var consumers = []consumer{
	{
		name: "`free` (procps)", needs: []string{"free"}, command: "free -b",
		memory: re(`Mem: +(\d+)`), unit: 1, showsMem: own,
	}, {
		name: "`top` (procps)", needs: []string{"top"}, command: "top -bn1",
		memory: re(`MiB Mem : +([0-9.]+) total`), unit: mib, showsMem: own,
		load: "top -bn2 -d1", usage: re(`%Cpu\(s\):.*?([0-9.]+) +id,`), idle: true, interval: time.Second,
	}, {
		name: "`vmstat`", needs: []string{"vmstat"}, command: "vmstat -s",
		memory: re(`(\d+) K total memory`), unit: kib, showsMem: own,
		load: "vmstat 1 2", usage: re(`(?m)^ *(?:\d+ +){14}(\d+) +\d+ *(?:\d+ *)?$`), idle: true, interval: time.Second,
	}, {
		name: "`ps`", needs: []string{"ps"}, command: "sleep 0.1; ps -o etimes= -p $$ | awk '$1 > 120 { exit 1 }'", // ps wraps around for a process as young as itself
		note: "%MEM of the container's memory; elapsed and start times are right, as uptime and btime are the machine's",
	}, {
		name: "`uptime`, `w`", needs: []string{"uptime"}, command: "uptime",
		note: "the machine's uptime and load, unless asked for: a virtual uptime breaks `ps`",
	}, {
		name: "busybox `top`", needs: []string{"busybox"}, command: "busybox top -bn1",
		memory: re(`Mem: (\d+)K used, (\d+)K free`), unit: kib, showsMem: own,
		load: "busybox top -b -n2 -d1", usage: re(`CPU: .*? +([0-9.]+)% idle`), idle: true, interval: time.Second,
	}, {
		name: "busybox `free`", needs: []string{"busybox"}, command: "busybox free",
		memory: re(`Mem: +(\d+)`), unit: kib, showsMem: host, note: "sysinfo(2); only what is available is the container's",
	}, {
		name: "`htop`", needs: []string{"htop"}, command: "TERM=linux htop --no-color", screen: true,
		memory: re(`Mem\[[^\]]*/([0-9.]+)M`), unit: mib, showsMem: own,
		note: "a bar for each of the machine's CPUs, the others at 0 %: it counts the directories in /sys/devices/system/cpu",
	}, {
		name: "`atop`", needs: []string{"atop"}, command: "atop 1 1",
		memory: re(`MEM \| tot +([0-9.]+)M`), unit: mib, showsMem: own,
		cpus: re(`numcpu +(\d+)`), showsCPU: own,
		load: "atop 1 2", usage: re(`CPU \| .*?idle +(\d+)%`), idle: true, interval: time.Second,
	}, {
		name: "`mpstat` (sysstat)", needs: []string{"mpstat"}, command: "mpstat",
		cpus: re(`\((\d+) CPU\)`), showsCPU: host, note: "the header counts directories in /sys; the rows are the container's CPUs",
		load: "mpstat 1 1", usage: re(`(?m)^Average: +all .* ([0-9.]+)$`), idle: true, interval: time.Second,
	}, {
		name: "`sar` (sysstat)", needs: []string{"sar"}, command: "sar -r 1 1",
		memory: re(`(?m)^Average: +(\d+) +\d+ +(\d+) +[0-9.]+ +(\d+) +(\d+)`), unit: kib, showsMem: own,
		load: "sar -u 1 1", usage: re(`(?m)^Average: +all .* ([0-9.]+)$`), idle: true, interval: time.Second,
	}, {
		name: "psutil", needs: []string{"/usr/bin/python3"},
		command: `/usr/bin/python3 -c 'import psutil; print("mem", psutil.virtual_memory().total, "cpus", psutil.cpu_count())'`,
		memory:  re(`mem (\d+)`), unit: 1, showsMem: own, cpus: re(`cpus (\d+)`), showsCPU: own,
		load: `/usr/bin/python3 -c 'import psutil; print("busy", psutil.cpu_percent(1))'`, usage: re(`busy ([0-9.]+)`), interval: time.Second,
	}, {
		name: "Python", needs: []string{"/usr/bin/python3"}, command: `/usr/bin/python3 -c 'import os; print("cpus", os.cpu_count())'`,
		cpus: re(`cpus (\d+)`), showsCPU: own, note: "`os.cpu_count`, and with it multiprocessing and concurrent.futures",
	}, {
		name: "`getconf _NPROCESSORS_ONLN`", needs: []string{"getconf"}, command: "getconf _NPROCESSORS_ONLN",
		cpus: re(`(\d+)`), showsCPU: own,
	}, {
		name: "`getconf _PHYS_PAGES`", needs: []string{"getconf"}, command: "getconf _PHYS_PAGES",
		memory: re(`(\d+)`), unit: float64(os.Getpagesize()), showsMem: host, note: "sysinfo(2)",
	}, {
		name: "`nproc`", needs: []string{"nproc"}, command: "nproc",
		cpus: re(`(\d+)`), showsCPU: host, note: "sched_getaffinity(2); right with a cpuset",
	}, {
		name: "node_exporter", needs: []string{"prometheus-node-exporter", "busybox"},
		command: `prometheus-node-exporter --web.listen-address=127.0.0.1:29187 --collector.disable-defaults --collector.meminfo --collector.cpu 2>&1 & p=$!
			for i in $(busybox seq 300); do busybox wget -qO /tmp/podproc-exporter.$$ http://127.0.0.1:29187/metrics 2>/dev/null && break; sleep 0.1; done
			kill $p; cat /tmp/podproc-exporter.$$; echo cpus $(grep -c '^node_cpu_seconds_total.*mode="idle"' /tmp/podproc-exporter.$$); rm /tmp/podproc-exporter.$$`,
		memory: re(`\nnode_memory_MemTotal_bytes ([0-9.e+]+)`), unit: 1, showsMem: own, cpus: re(`cpus (\d+)`), showsCPU: own,
		note: "where it is not given the machine's /proc, as its own manifests do",
	}, {
		name: "Node.js `os.totalmem`, `os.cpus`", needs: []string{"node"},
		command: `node -e 'const os = require("os"); console.log("mem", os.totalmem(), "cpus", os.cpus().length)'`,
		memory:  re(`mem (\d+)`), unit: 1, showsMem: own, cpus: re(`cpus (\d+)`), showsCPU: own,
		note: "and V8's heap limit; `availableParallelism` asks sched_getaffinity(2)",
	}, {
		name: "nginx `worker_processes auto`", needs: []string{"nginx"},
		command: `d=/tmp/podproc-nginx.$$; mkdir $d
			echo "daemon off; worker_processes auto; pid $d/pid; error_log $d/log notice; events { } " > $d/conf
			nginx -p $d -e $d/log -c $d/conf & p=$!
			for i in $(busybox seq 300); do grep -q 'start worker process ' $d/log 2>/dev/null && break; sleep 0.1; done
			sleep 0.3; kill $p; wait $p; echo cpus $(grep -c 'start worker process ' $d/log); rm -r $d`,
		cpus: re(`cpus (\d+)`), showsCPU: own,
	}, {
		name: "Java 17", needs: []string{"java"}, command: "java -Xlog:os+container=off -XX:+PrintFlagsFinal -version 2>&1",
		memory: re(`size_t MaxHeapSize += (\d+)`), unit: 1, showsMem: itself,
		note: "heap by default: a quarter or half of the memory that it sees",
	}, {
		name: "Java 17 `-XX:-UseContainerSupport`", needs: []string{"java"}, command: "java -XX:-UseContainerSupport -XX:+PrintFlagsFinal -version 2>&1",
		memory: re(`size_t MaxHeapSize += (\d+)`), unit: 1, showsMem: host, note: "sysinfo(2), sched_getaffinity(2)",
	},
}

const (
	consumerMemory = 256 << 20
	consumerCPUs   = 1
)

var consumerFlags = []string{"--memory", strconv.Itoa(consumerMemory), "--cpus", strconv.Itoa(consumerCPUs)}

// TestConsumers: each program shows what the table says, of memory, the number
// of CPUs, and how busy they are.
func TestConsumers(t *testing.T) {
	machine := [2]float64{float64(parseMeminfo(t, read(t, "/proc/meminfo"))["MemTotal"]) * kib, float64(hostCPUs(t))}
	idle, busy := newContainer(t, consumerFlags...), newContainer(t, consumerFlags...)
	stop := busy.burn(1)
	defer stop()
	for i := range consumers {
		c := &consumers[i]
		t.Run(c.name, func(t *testing.T) {
			need(t, c.needs...)
			defer func(t *testing.T) { idle.t, busy.t = t, t }(idle.t)
			idle.t, busy.t = t, t
			var out string
			if c.screen {
				out = onScreen(t, c.command, c.memory)
			} else {
				out = idle.sh(c.command)
			}
			if c.memory != nil {
				c.judge(t, "memory", out, c.memory, c.unit, c.showsMem, consumerMemory, machine[0])
			}
			if c.cpus != nil {
				c.judge(t, "CPUs", out, c.cpus, 1, c.showsCPU, consumerCPUs, machine[1])
			}
			if c.usage != nil {
				c.measure(idle, busy)
			}
		})
	}
}

// judge compares a number in the output with the container's and the machine's.
func (c *consumer) judge(t *testing.T, what, out string, find *regexp.Regexp, unit float64, want view, container, machine float64) {
	t.Helper()
	match := find.FindStringSubmatch(out)
	if match == nil {
		t.Errorf("shows no %s:\n%s", what, out)
		return
	}
	got := 0.0
	for _, s := range match[1:] { // used and free are the total
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		got += n * unit
	}
	// Some leave out what the kernel keeps for itself.
	near := func(value float64) bool { return math.Abs(got-value) <= value*3/100 }
	if strings.HasPrefix(c.name, "Java") { // the heap is a part of it
		near = func(value float64) bool { return got >= value/5 && got <= value/1.9 }
	}
	is := map[bool]float64{true: machine, false: container}[want == host]
	if !near(is) {
		t.Errorf("shows %.0f as %s, want %s: %.0f:\n%s", got, what, want, is, out)
	}
}

// measure has the program measure an idle and a busy container.
func (c *consumer) measure(idle, busy *container) {
	m := meter{c.name, []string{"sh", "-c", c.load}, c.interval, func(out string) (float64, error) {
		all := c.usage.FindAllStringSubmatch(out, -1)
		if len(all) == 0 {
			return 0, fmt.Errorf("no usage")
		}
		busy, err := strconv.ParseFloat(all[len(all)-1][1], 64)
		if c.idle {
			busy = 100 - busy
		}
		return busy, err
	}}
	var wait sync.WaitGroup
	wait.Go(func() { m.measure(idle, consumerCPUs, [2]float64{0, 3}) })
	m.measure(busy, consumerCPUs, [2]float64{95, 100})
	wait.Wait()
}

// escapes are what a program sends to move about on the screen.
var escapes = regexp.MustCompile("\x1b(\\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])|[\x0e\x0f]")

// onScreen runs a command on a terminal of its own, until it shows something
// and ends by "q", and returns what it has shown.
func onScreen(t *testing.T, command string, until *regexp.Regexp) string {
	t.Helper()
	master, slave := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--fs", tree}, consumerFlags...)
	cmd := exec.Command(podproc, append(args, "--", "sh", "-c", command)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &conversation{t: t, cmd: cmd}
	go c.listen(master)
	defer c.end()
	shown := func() string { return escapes.ReplaceAllString(c.said(), "") }
	eventually(t, "a screen", func() bool { return until.MatchString(shown()) })
	if _, err := master.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if code := c.end(); code != 0 {
		t.Errorf("%s: exit status %d: %q", command, code, c.said())
	}
	return shown()
}

//go:embed testdata/generations.md
var generationsOfOldImages string

// cured is the part of the README that says who is cured.
func cured() string {
	var b strings.Builder
	b.WriteString("In a container of 256 MiB and one CPU (checked by `make test`):\n\n| program | memory | CPUs | CPU usage | |\n|---|---|---|---|---|\n")
	for _, c := range consumers {
		usage := nothing
		if c.usage != nil {
			usage = own
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.name, c.showsMem, c.showsCPU, usage, c.note)
	}
	b.WriteString("\n" + generationsOfOldImages)
	return b.String()
}

// TestREADME: the README's table is the one that TestConsumers checks.
func TestREADME(t *testing.T) {
	const begin, end = "<!-- who is cured: test/node checks this part -->\n", "<!-- end -->"
	root := "../.."
	if !exists(filepath.Join(root, "go.mod")) {
		t.Skip("this is no checkout (the VM gets binaries alone); the README is compared where it is one")
	}
	path := filepath.Join(root, "README.md")
	text := read(t, path)
	before, rest, ok1 := strings.Cut(text, begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("README.md has no part between %q and %q", begin, end)
	}
	if got == cured() {
		return
	}
	if !*update {
		t.Fatal("README.md does not say what TestConsumers checks; run: go test ./test/node -run TestREADME -update")
	}
	if err := os.WriteFile(path, []byte(before+begin+cured()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
