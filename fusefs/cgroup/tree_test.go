// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree is a made machine: a directory with proc/ and cgroup/.
type tree struct {
	t    testing.TB
	root string
}

// files maps a path to its text. A text "-> X" is a symlink to X; a path that
// ends in "/" is a directory.
type files map[string]string

func newTree(t testing.TB, fs files) *tree {
	t.Helper()
	tr := &tree{t: t, root: t.TempDir()}
	for _, dir := range []string{"proc", "cgroup"} {
		if err := os.Mkdir(filepath.Join(tr.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range fs {
		tr.write(path, text)
	}
	return tr
}

// write makes or changes a file in place, as the kernel's are: an open
// descriptor sees the new text.
func (tr *tree) write(path, text string) {
	tr.t.Helper()
	full := filepath.Join(tr.root, path)
	dir := filepath.Dir(full)
	if strings.HasSuffix(path, "/") {
		dir = full
	}
	err := os.MkdirAll(dir, 0o755)
	if target, ok := strings.CutPrefix(text, "-> "); err == nil && ok {
		err = os.Symlink(target, full)
	} else if err == nil && dir != full {
		err = os.WriteFile(full, []byte(text), 0o644)
	}
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) remove(path string) {
	tr.t.Helper()
	if err := os.RemoveAll(filepath.Join(tr.root, path)); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) config() Config {
	return Config{
		Proc:        filepath.Join(tr.root, "proc"),
		Cgroup:      filepath.Join(tr.root, "cgroup"),
		NodeWideAge: -time.Nanosecond,
	}
}

func (tr *tree) open(change func(*Config)) *FS {
	tr.t.Helper()
	cfg := tr.config()
	if change != nil {
		change(&cfg)
	}
	fs, err := New(cfg)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() {
		if err := fs.Close(); err != nil {
			tr.t.Error(err)
		}
	})
	return fs
}

// container opens the container of thread 100.
func (tr *tree) container(fs *FS) *Container {
	tr.t.Helper()
	b, err := fs.Boundary(100)
	if err != nil {
		tr.t.Fatal(err)
	}
	c, err := fs.Open(b)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { c.Close() })
	return c
}

func union(all ...files) files {
	out := files{}
	for _, f := range all {
		maps.Copy(out, f)
	}
	return out
}

// in puts the files of one cgroup where they belong.
func in(dir string, f files) files {
	out := files{}
	for name, text := range f {
		out[dir+"/"+name] = text
	}
	return out
}

const (
	hexA = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	hexB = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	pod  = "8c1f5f4e-4f2a-4c7b-9d53-0d3c7a4e6b21"
)

// stat is /proc/PID/stat with the fields that podproc reads.
func stat(flags, start string) string {
	return "100 (a (b) c) S 1 1 1 0 -1 " + flags + " 0 0 0 0 0 0 0 0 20 0 1 0 " + start + " 0 0\n"
}

// process is a thread in podproc's own pid namespace.
func process100(cgroup string) files {
	return in("proc/100", files{
		"cgroup": cgroup,
		"status": "Name:\ta\nNSpid:\t100\nNSpgid:\t100\n",
		"stat":   stat("4194560", "5000"),
		"ns/pid": "-> pid:[4026531836]",
	})
}

const memoryStatTextV1 = `cache 1
rss 2
total_cache 41943040
total_rss 10485760
total_rss_huge 2097152
total_shmem 1048576
total_mapped_file 3145728
total_dirty 8192
total_writeback 4096
total_swap 12288
total_inactive_anon 5242880
total_active_anon 5242881
total_inactive_file 20971520
total_active_file 10485761
total_unevictable 16384
`

const memoryStatTextV2 = `anon 10485760
file 41943040
kernel 999
kernel_stack 65536
pagetables 131072
sec_pagetables 4096
percpu 1440
sock 0
vmalloc 8192
shmem 1048576
zswap 20480
zswapped 40960
file_mapped 3145728
file_dirty 8192
file_writeback 4096
swapcached 24576
anon_thp 2097152
file_thp 0
shmem_thp 0
inactive_anon 5242880
active_anon 5242881
inactive_file 20971520
active_file 10485761
unevictable 16384
slab_reclaimable 300000
slab_unreclaimable 100000
slab 400000
workingset_refault_anon 0
pgfault 12345
`

// v1Memory and so on are the control files of one cgroup. The empty
// limit is none.

func v1Memory(limit, usage, memswLimit, memswUsage string) files {
	const none = "9223372036854771712"
	if limit == "" {
		limit = none
	}
	if memswLimit == "" {
		memswLimit = none
	}
	return files{
		"memory.limit_in_bytes":       limit + "\n",
		"memory.usage_in_bytes":       usage + "\n",
		"memory.memsw.limit_in_bytes": memswLimit + "\n",
		"memory.memsw.usage_in_bytes": memswUsage + "\n",
		"memory.stat":                 memoryStatTextV1,
		"cgroup.procs":                "",
	}
}

func v1CPU(quota, period string) files {
	return files{
		"cpu.cfs_quota_us":  quota + "\n",
		"cpu.cfs_period_us": period + "\n",
		"cpu.shares":        "1024\n",
	}
}

func v1Acct(usageAll string) files {
	return files{
		"cpuacct.usage_all": usageAll,
		"cpuacct.stat":      "user 1\nsystem 2\n",
	}
}

func v1CPUs(cpus, effective string) files {
	return files{"cpuset.cpus": cpus + "\n", "cpuset.effective_cpus": effective + "\n"}
}

func v2Cgroup(limit, usage, cpuMax string) files {
	if limit == "" {
		limit = "max"
	}
	if cpuMax == "" {
		cpuMax = "max 100000"
	}
	return files{
		"memory.max":             limit + "\n",
		"memory.current":         usage + "\n",
		"memory.swap.max":        "max\n",
		"memory.swap.current":    "0\n",
		"memory.stat":            memoryStatTextV2,
		"cpu.max":                cpuMax + "\n",
		"cpu.weight":             "100\n",
		"cpu.stat":               "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 0\n",
		"cpuset.cpus.effective":  "0-3\n",
		"pids.current":           "7\n",
		"cgroup.procs":           "100\n",
		"cgroup.subtree_control": "cpuset cpu io memory pids\n",
	}
}

var v2Root = in("cgroup", files{
	"cgroup.controllers":     "cpuset cpu io memory pids\n",
	"cgroup.subtree_control": "cpuset cpu io memory pids\n",
	"cgroup.procs":           "1\n",
	"cpuset.cpus.effective":  "0-7\n",
	"cpu.stat":               "usage_usec 9000000\nuser_usec 8000000\nsystem_usec 1000000\n",
	"memory.stat":            memoryStatTextV2,
})
