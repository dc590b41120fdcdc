// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
)

// cpuField is a number in /proc/cpuinfo that a container knows better.
type cpuField uint8

const (
	cpuNumber  cpuField = iota // of this CPU
	cpuCount                   // of CPUs
	cpuPackage                 // the one package that they are all in
)

// cpuFields finds the field of a line by its key. A format lacks what it
// lacks; what is a field in one is not something else in another.
//
//	key               x86  arm64 arm ppc64le riscv64  s390x
//	processor         x    x     x   x       x        (in the summary)
//	cpu number                                        x
//	# processors                                      x (once)
//	siblings          x                               x
//	cpu cores         x                               x
//	core id           x                               x
//	physical id       x                               x
//	apicid, initial   x
var cpuFields = map[string]cpuField{
	"processor":      cpuNumber,
	"cpu number":     cpuNumber,
	"# processors":   cpuCount,
	"siblings":       cpuCount,
	"cpu cores":      cpuCount,
	"core id":        cpuNumber,
	"physical id":    cpuPackage,
	"apicid":         cpuNumber,
	"initial apicid": cpuNumber,
}

// cpuSpot is where the number of a field stands in the text.
type cpuSpot struct {
	field    cpuField
	from, to int
}

// cpuBlock is what the text says of one CPU.
type cpuBlock struct {
	cpu      int
	from, to int
	spots    []cpuSpot
}

// HostCpuinfo is the host's /proc/cpuinfo, in pieces: what stands before the
// CPUs, on s390x a summary with a line per CPU, a block per CPU, and what
// stands behind them.
type HostCpuinfo struct {
	text    []byte // with room: clock rates of one width
	header  cpuBlock
	summary []cpuBlock
	middle  int // where what is between summary and blocks begins
	first   int // where the first block begins
	blocks  []cpuBlock
	trailer int // where it begins
}

// ParseCpuinfo parses the host's /proc/cpuinfo. It tells the format by the
// lines themselves:
//
//	x86, arm64, riscv64  a block per CPU, "processor : N" first and a blank line last
//	arm, ppc64le         the same, and a trailer (Hardware, Serial; timebase, platform)
//	loongarch, mips      the same, with a header
//	s390x                a header, a line "processor N: ..." per CPU, and (4.12) blocks
//	                     that begin with a blank line and "cpu number : N"
//
// A format without such lines (sparc, old arm with a single CPU) passes through
// as it is.
func ParseCpuinfo(text []byte) (*HostCpuinfo, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("text does not end in a newline")
	}
	p := cpuinfoParser{h: &HostCpuinfo{text: make([]byte, 0, len(text)+64)}}
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		p.line(line)
	}
	p.finish()
	return p.h, nil
}

type cpuinfoParser struct {
	h      *HostCpuinfo
	spots  []cpuSpot // since the last block was cut
	blank  int       // where the blank line before this line begins, -1 without
	behind bool      // a blank line has ended the block
}

// line adds a line to the text and to the block that it belongs to.
func (p *cpuinfoParser) line(line []byte) {
	h := p.h
	start := len(h.text)
	before := start
	if p.blank >= 0 {
		before = p.blank
	}
	p.blank = -1
	if len(line) == 1 {
		p.blank = start
		h.text = append(h.text, line...)
		if n := len(h.blocks); n > 0 && !p.behind {
			h.blocks[n-1].to, p.behind = len(h.text), true
		}
		return
	}
	h.text = appendCPULine(h.text, line)

	key, value := cutKey(line)
	if cpu, ok := summaryLine(line); ok && len(h.blocks) == 0 {
		p.cut(start)
		h.summary = append(h.summary, cpuBlock{cpu: cpu, from: start, to: len(h.text),
			spots: []cpuSpot{{cpuNumber, start + len("processor "), start + bytes.IndexByte(line, ':')}}})
		h.middle = len(h.text)
		return
	}
	field, known := cpuFields[string(key)]
	if !known {
		return
	}
	from, to := number(value)
	n, ok := parseUint(value[from:to])
	if !ok || n >= maxCPUs && field != cpuNumber || len(bytes.TrimSpace(value)) != to-from {
		return
	}
	offset := start + len(line) - len(value)
	switch {
	case string(key) == "processor" && n < maxCPUs:
		p.open(start, int(n))
	case string(key) == "cpu number" && n < maxCPUs:
		p.open(before, int(n))
	}
	p.spots = append(p.spots, cpuSpot{field, offset + from, offset + to})
}

// open ends what is before and begins the block of a CPU.
func (p *cpuinfoParser) open(at, cpu int) {
	p.cut(at)
	if len(p.h.blocks) == 0 {
		p.h.first = at
	}
	p.h.blocks = append(p.h.blocks, cpuBlock{cpu: cpu, from: at})
	p.behind = false
}

// cut ends the block, or the header, at the offset at.
func (p *cpuinfoParser) cut(at int) {
	b := &p.h.header
	if n := len(p.h.blocks); n > 0 {
		b = &p.h.blocks[n-1]
	}
	if len(p.h.summary) == 0 || len(p.h.blocks) > 0 {
		b.to, b.spots = at, p.spots
	}
	p.spots = make([]cpuSpot, 0, len(cpuFields))
}

func (p *cpuinfoParser) finish() {
	h := p.h
	h.trailer = len(h.text)
	if len(h.blocks) == 0 {
		h.first = h.trailer
	} else {
		n := len(h.blocks)
		b := &h.blocks[n-1]
		b.spots = p.spots
		if p.behind {
			h.trailer = b.to
			for n := len(b.spots); n > 0 && b.spots[n-1].from >= b.to; n-- {
				b.spots = b.spots[:n-1]
			}
		}
		b.to = h.trailer
	}
	slices.SortStableFunc(h.blocks, func(a, b cpuBlock) int { return a.cpu - b.cpu })
	slices.SortStableFunc(h.summary, func(a, b cpuBlock) int { return a.cpu - b.cpu })
}

// cutKey splits "key : value" at the first colon; key has no blanks behind it.
func cutKey(line []byte) (key, value []byte) {
	key, value, _ = bytes.Cut(line, []byte(":"))
	return bytes.TrimRight(key, " \t"), value
}

// summaryLine finds the CPU of a line of the form
// "processor 0: version = FF,  identification = 0133E8,  machine = 2964".
func summaryLine(line []byte) (cpu int, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("processor "))
	if !ok {
		return 0, false
	}
	from, to := number(rest)
	n, ok := parseUint(rest[from:to])
	if from != 0 || !ok || n >= maxCPUs || to >= len(rest) || rest[to] != ':' {
		return 0, false
	}
	return int(n), true
}

// clockDigits is the width of a clock rate of some GHz in MHz, without the
// point: "2600.000".
const clockDigits = 7

// appendCPULine appends a line; in one with a clock rate, which changes from
// moment to moment, the number is given one width by zeros behind the point
// (800.0000 beside 2600.000): all parsers know them, where blanks would be
// in the way of some.
func appendCPULine(dst, line []byte) []byte {
	key, value := cutKey(line)
	if string(key) != "cpu MHz" && string(key) != "clock" {
		return append(dst, line...)
	}
	from, to := number(value)
	if to >= len(value) || value[to] != '.' {
		return append(dst, line...)
	}
	whole := to - from
	point, decimals := number(value[to+1:])
	if point != 0 {
		return append(dst, line...)
	}
	to += 1 + decimals
	want := clockDigits
	if decimals > 3 { // ppc64le: 2061.000000MHz
		want += 3
	}
	at := len(line) - len(value) + to
	dst = append(dst, line[:at]...)
	for range want - whole - decimals {
		dst = append(dst, '0')
	}
	return append(dst, line[at:]...)
}

// Cpuinfo appends /proc/cpuinfo to dst.
//
//	limited      the first N CPUs of the cpuset, renumbered 0 to N-1
//	not limited  the host's text
//
// So that people can compute cores from it, N CPUs are one package of N cores
// with one thread each: a quota binds a container to no particular core, and
// which of the host's hyperthreads run it changes from moment to moment.
//
//	processor, cpu number, core id, apicid, initial apicid  0 to N-1
//	physical id                                             0
//	siblings, cpu cores, # processors                       N
//
// Everything else (hart of riscv64, address of s390x, the model of big and
// little cores) is that of the host's CPU.
func Cpuinfo(dst []byte, h *HostCpuinfo, c CPUs) []byte {
	if !c.Limited || len(h.blocks)+len(h.summary) == 0 {
		return append(dst, h.text...)
	}
	dst = h.appendBlock(dst, &h.header, 0, c.N)
	if len(h.summary) > 0 {
		dst = h.appendCPUs(dst, h.summary, c)
		dst = append(dst, h.text[h.middle:h.first]...)
	}
	if len(h.blocks) > 0 {
		dst = h.appendCPUs(dst, h.blocks, c)
	}
	return append(dst, h.text[h.trailer:]...)
}

// appendCPUs appends the blocks of the first N of c.Host that have one. If
// the text, which is older than c, has fewer, the last one stands for those.
func (h *HostCpuinfo) appendCPUs(dst []byte, blocks []cpuBlock, c CPUs) []byte {
	next, n := 0, 0
	last := &blocks[0]
	for _, cpu := range c.Host {
		for next < len(blocks)-1 && blocks[next].cpu < cpu {
			next++
		}
		if n == c.N {
			break
		}
		if blocks[next].cpu == cpu {
			last = &blocks[next]
			dst = h.appendBlock(dst, last, n, c.N)
			n++
		}
	}
	for ; n < c.N; n++ {
		dst = h.appendBlock(dst, last, n, c.N)
	}
	return dst
}

// appendBlock appends a block as that of CPU number cpu of n.
func (h *HostCpuinfo) appendBlock(dst []byte, b *cpuBlock, cpu, n int) []byte {
	at := b.from
	for _, s := range b.spots {
		dst = append(dst, h.text[at:s.from]...)
		switch s.field {
		case cpuNumber:
			dst = strconv.AppendInt(dst, int64(cpu), 10)
		case cpuCount:
			dst = strconv.AppendInt(dst, int64(n), 10)
		case cpuPackage:
			dst = append(dst, '0')
		}
		at = s.to
	}
	return append(dst, h.text[at:b.to]...)
}
