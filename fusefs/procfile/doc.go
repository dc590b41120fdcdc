// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package procfile renders the files that a container sees in place of the
// kernel's own: host text and what is known of the container in, kernel text
// out.
//
// It promises that the host's text is the template: lines it does not know,
// their order and their widths pass through, so that the lines of a newer
// kernel reach the container unchanged. No field underflows, MemTotal is never
// 0, Free <= Available <= Total, and the number of CPUs is the same in every
// file. Renderers append to dst and do not allocate.
//
// It promises sizes that stand still: a file is cached by the kernel as one
// inode, and a reader that meets a change of size half-way may get a torn file.
// So numbers that grow are given room, each in the place where known parsers
// skip it (see Meminfo, Cpuinfo, Stat and the others), and where a size has to change
// it changes rarely and in big steps. A file of more than one page is laid out
// so that pages of different snapshots still make a valid file.
//
// The host's files are parsed once per interval for all containers (ParseMeminfo
// and its like), so that what is left to do for a container does not grow with
// the host.
//
// It refuses to do I/O, to know of cgroup versions, and to guess: text that is
// not what the kernel writes is an error of the parser.
package procfile
