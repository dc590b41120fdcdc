// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podproc/podproc/cmd/internal/command"
)

// run runs a command line.
func run(t *testing.T, line string) (stdout, stderr string, err error) {
	t.Helper()
	var out, msg bytes.Buffer
	err = program.Run(t.Context(), strings.Fields(line), nil, &out, &msg)
	return out.String(), msg.String(), err
}

// What cannot be meant is refused before anything is done, with the flag and
// what to say instead.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                              "the usual one is serve",
		"start":                         `unknown command "start"; see podproc-node --help`,
		"serve now":                     "serve takes no arguments",
		"release now":                   "release takes no arguments",
		"serve --bogus":                 "-bogus; see podproc-node serve --help",
		"release --bogus":               "-bogus; see podproc-node release --help",
		"release --standby":             "-standby; see podproc-node release --help",
		"serve --standby":               "--standby needs --ctl",
		"serve --grace 10s":             "--grace needs --ctl",
		"serve --silence 1s":            "--silence needs --ctl",
		"serve --ctl /c --grace -1s":    "--grace -1s: say 0",
		"serve --ctl /c --silence 0":    "--silence 0s: say more than 0",
		"serve --freshness 0":           "--freshness 0s: say more than 0",
		"serve --freshness 100":         "-freshness: parse error; see podproc-node serve --help",
		"serve --mount fs":              `--mount "fs": say an absolute path`,
		"release --mount fs":            `--mount "fs": say an absolute path`,
		"serve --mount /a --ctl /a/ctl": "--ctl /a/ctl: that is in the file system",
		"serve --mount /a/ --ctl /a":    "--ctl /a: that is in the file system",
		"serve --selinux-context container_file_t": "--selinux-context \"container_file_t\": say user:role:type:level",
		"serve --log-level loud":                   "log-level",
		"probe":                                    "probe is a part of serve",
	} {
		_, _, err := run(t, line)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
		if status := command.Status(err); status != 2 && line != "probe" {
			t.Errorf("%q: exit status %d", line, status)
		}
	}
}

// Help goes to standard output and names each command and each flag.
func TestHelp(t *testing.T) {
	for _, line := range []string{"--help", "help"} {
		out, _, err := run(t, line)
		if err != nil || !strings.Contains(out, "podproc-node serve") || !strings.Contains(out, "podproc-node release") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	var o options
	for line, flags := range map[string]*flag.FlagSet{"serve": o.flags(), "release": nil} {
		out, msg, err := run(t, line+" --help")
		if !errors.Is(err, flag.ErrHelp) || command.Status(err) != 0 || msg != "" || !strings.Contains(out, "podproc-node "+line+" [flags]") {
			t.Errorf("%s --help: %v, stderr %q\n%s", line, err, msg, out)
		}
		if flags == nil {
			continue
		}
		flags.VisitAll(func(f *flag.Flag) {
			if !strings.Contains(out, "\n  -"+f.Name) || f.Usage == "" {
				t.Errorf("%s --help does not explain --%s", line, f.Name)
			}
		})
	}
	if out, _, err := run(t, "--version"); err != nil || out != "podproc-node dev\n" {
		t.Errorf("--version: %q, %v", out, err)
	}
}

func TestFlags(t *testing.T) {
	for _, line := range []string{
		"", "--mount /m", "--ctl /c --standby", "--ctl /c --grace 0", "--ctl /m-not --mount /m",
		"--mount /run/podproc/fs --mount-namespace /proc/1/ns/mnt --ctl /run/podproc/ctl --metrics-addr :9118 --log-level debug",
		"--selinux-context system_u:object_r:container_file_t:s0:c1,c2",
	} {
		var o options
		f := o.flags()
		if err := f.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		if err := o.checkServe(f); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if o.freshness != 100*time.Millisecond || o.silence != time.Second {
			t.Errorf("%q: freshness %s, silence %s", line, o.freshness, o.silence)
		}
	}
}

// A process that is where it cannot do its job says so in one line.
func TestSurroundings(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	empty := t.TempDir()
	usual := options{proc: "/proc", sys: "/sys", cgroup: "/sys/fs/cgroup", ownCgroupNamespace: true}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if err := surroundings(&usual, log); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*options){
		"say where it is with --proc":                    func(o *options) { o.proc = empty },
		"say where it is with --sys":                     func(o *options) { o.sys = empty },
		"say where cgroupfs is mounted with --cgroup":    func(o *options) { o.cgroup = empty },
		"no cgroup hierarchy at " + empty + "/no-such":   func(o *options) { o.cgroup = filepath.Join(empty, "no-such") },
		"say its file with --mount-namespace (in a pod:": func(o *options) { o.namespace = "/proc/0/ns/mnt" },
	} {
		o := usual
		change(&o)
		if err := surroundings(&o, log); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
