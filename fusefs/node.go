// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"strconv"
	"strings"

	"github.com/podproc/podproc/fusefs/procfile"
)

// A node id says everything about a node, so that a successor process needs
// no table to answer for what the kernel knows already:
//
//	bits 56..63  index in nodes: what it is
//	bits  0..55  0: the directory or symlink of that index itself
//	             n: the n-th inode of the file of that index
//
// The root is 1 by definition of FUSE and has index 0. Index 255 is go-fuse's
// own. Indices are for ever: a program of another version may serve what this
// one has given out, and the other way round.
const (
	indexShift = 56
	numberMask = 1<<indexShift - 1
	rootID     = 1
)

// node is a row of the table of nodes: a directory (file == nil) or one
// kernel file.
type node struct {
	index uint8
	path  string // from the root of the tree; "" is the root
	file  *procfile.File
}

// inodeDir holds the inodes of all files under names that are used once:
// "meminfo-17". It cannot be listed.
const inodeDir = ".inode"

// nodes is the one table of what exists. Rows are added, never renumbered;
// the index of a row that goes is not used again.
var nodes = []node{
	{0, "", nil},
	{1, inodeDir, nil},
	{2, "proc", nil},
	{3, "sys", nil},
	{4, "sys/devices", nil},
	{5, "sys/devices/system", nil},
	{6, "sys/devices/system/cpu", nil},
	{7, "proc/pressure", nil},

	{32, "proc/meminfo", served("proc/meminfo")},
	{33, "proc/cpuinfo", served("proc/cpuinfo")},
	{34, "proc/stat", served("proc/stat")},
	{35, "proc/swaps", served("proc/swaps")},
	{36, "sys/devices/system/cpu/online", served("sys/devices/system/cpu/online")},
	{37, "proc/uptime", served("proc/uptime")},
	{38, "proc/loadavg", served("proc/loadavg")},
	{39, "proc/pressure/cpu", served("proc/pressure/cpu")},
	{40, "proc/pressure/io", served("proc/pressure/io")},
	{41, "proc/pressure/memory", served("proc/pressure/memory")},
	{42, "proc/diskstats", served("proc/diskstats")},
}

// served is the row of procfile's table for path.
func served(path string) *procfile.File {
	for i := range procfile.Files {
		if procfile.Files[i].Path == path {
			return &procfile.Files[i]
		}
	}
	panic("no renderer for " + path)
}

// Paths maps the index of each file to the kernel's own path. It crosses
// takeovers: a file that a successor does not know it serves as the host's.
func Paths() map[uint8]string {
	m := map[uint8]string{}
	for i := range nodes {
		if nodes[i].file != nil {
			m[nodes[i].index] = "/" + nodes[i].path
		}
	}
	return m
}

func (n *node) id() uint64 {
	if n.index == 0 {
		return rootID
	}
	return uint64(n.index) << indexShift
}

// name is the last element of the path.
func (n *node) name() string { return n.path[strings.LastIndexByte(n.path, '/')+1:] }

// child finds the node that is called name in directory n.
func (t *table) child(n *node, name string) *node {
	path := name
	if n.path != "" {
		path = n.path + "/" + name
	}
	return t.byPath[path]
}

// target is what the symlink n points to, if it is to lead to inode number.
func (n *node) target(number uint64) string {
	return strings.Repeat("../", strings.Count(n.path, "/")) + inodeDir + "/" + n.inodeName(number)
}

func (n *node) inodeName(number uint64) string {
	return n.name() + "-" + strconv.FormatUint(number, 10)
}

// inodeByName is the reverse of inodeName; 0 if there is no such inode.
func (t *table) inodeByName(name string) uint64 {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return 0
	}
	number, err := strconv.ParseUint(name[i+1:], 10, indexShift)
	n := t.byName[name[:i]]
	if err != nil || number == 0 || n == nil || n.inodeName(number) != name {
		return 0
	}
	return n.id() | number
}

// table indexes nodes, and the files of another version that only the
// process before this one knew.
type table struct {
	byIndex [256]*node
	byPath  map[string]*node
	byName  map[string]*node // files
	entries map[*node][]*node
}

func newTable(foreign map[uint8]string) *table {
	t := &table{byPath: map[string]*node{}, byName: map[string]*node{}, entries: map[*node][]*node{}}
	for i := range nodes {
		t.add(&nodes[i])
	}
	for index, path := range foreign {
		path = strings.TrimPrefix(path, "/")
		if t.byIndex[index] == nil && t.byPath[path] == nil {
			t.add(&node{index, path, &procfile.File{Path: path}})
		}
	}
	return t
}

func (t *table) add(n *node) {
	t.byIndex[n.index] = n
	t.byPath[n.path] = n
	if n.file != nil {
		t.byName[n.name()] = n
	}
	if n.path == "" {
		return
	}
	dir := ""
	if i := strings.LastIndexByte(n.path, '/'); i >= 0 {
		dir = n.path[:i]
	}
	if parent := t.byPath[dir]; parent != nil {
		t.entries[parent] = append(t.entries[parent], n)
	}
}

// node finds what id belongs to, and the number of an inode (0: the node
// itself).
func (t *table) node(id uint64) (*node, uint64) {
	if id == rootID {
		return t.byIndex[0], 0
	}
	n := t.byIndex[id>>indexShift]
	number := id & numberMask
	if n == nil || n.index == 0 || n.file == nil && number != 0 {
		return nil, 0
	}
	return n, number
}

// ino is the small number that stat(2) shows for id: 32-bit programs cannot
// take more than 32 bits.
func ino(id uint64) uint64 {
	return 1 + (id>>indexShift|(id&numberMask)<<8)&0x7fffffff
}
