// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"strconv"

	"github.com/podproc/podproc/fusefs/view"
)

const (
	pageSize   = 4096
	statStep   = 256
	maxCPULine = 128
)

// pages lays out a file. reserved is the size that what is written so far may
// have; it is never less than what it has.
type pages struct {
	text     []byte
	start    int
	reserved int
}

func (p *pages) size() int { return len(p.text) - p.start }

// cpus writes the lines of a container's CPUs, false if one is too wide.
func (p *pages) cpus(h *HostStat, c *Counters, width int) bool {
	p.text = append(p.text, "cpu "...)
	ok := p.cpuLine(c.total(), h.fields, len("cpu "), width)
	for _, cpu := range c.shown {
		p.text = append(p.text, "cpu"...)
		label := len(p.text)
		p.text = strconv.AppendInt(p.text, int64(cpu), 10)
		ok = ok && p.cpuLine(c.cpu(cpu), h.fields, len("cpu")+len(p.text)-label, width)
	}
	return ok
}

// cpuLine ends a line after its name of that length.
func (p *pages) cpuLine(t ticks, fields, name, width int) bool {
	from := len(p.text) - name
	for i := range fields {
		p.text = append(p.text, ' ')
		switch i {
		case 0:
			p.text = strconv.AppendUint(p.text, t.user, 10)
		case 2:
			p.text = strconv.AppendUint(p.text, t.system, 10)
		case 3:
			p.text = strconv.AppendUint(p.text, t.idle, 10)
		default:
			p.text = append(p.text, '0')
		}
	}
	return p.endCPULine(from, width)
}

// hostCPUs writes the host's own lines.
func (p *pages) hostCPUs(h *HostStat, width int) bool {
	for rest := h.cpus; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		from := len(p.text)
		p.text = append(p.text, line[:len(line)-1]...)
		if !p.endCPULine(from, width) {
			return false
		}
	}
	return true
}

// endCPULine ends the line that begins at from, and the page if that is full.
func (p *pages) endCPULine(from, width int) bool {
	if len(p.text)+1-from > width {
		return false
	}
	p.text = append(p.text, '\n')
	p.reserved += width
	if p.reserved%pageSize == 0 {
		p.padLines(p.reserved-p.size(), max(width, maxCPULine))
	}
	return true
}

// padLines adds n blanks to the ends of the last lines, each of which may get
// as long as longest.
func (p *pages) padLines(n, longest int) {
	from := len(p.text)
	p.text = appendBlanks(p.text, n)
	for to := len(p.text); from < to; {
		line := p.start + bytes.LastIndexByte(p.text[p.start:from-1], '\n') + 1 // where it begins
		length := from - line
		pad := min(to-from, longest-length)
		to--
		p.text[to] = '\n'
		fillBlanks(p.text[to-pad : to])
		to -= pad + length - 1
		copy(p.text[to:], p.text[line:from-1])
		from = line
	}
}

// intr writes the intr line without its newline.
func (p *pages) intr(h *HostStat) {
	for piece := 0; piece < len(h.piece); {
		border := (p.reserved/pageSize + 1) * pageSize
		done, written := int32(0), int32(0)
		if piece > 0 {
			done, written = h.reserve[piece-1], h.piece[piece-1]
		}
		fit := searchInt32(h.reserve, done+int32(border-p.reserved))
		if fit == piece && border-p.reserved == pageSize { // more than a page: cut anywhere
			fit++
		}
		if fit > piece {
			p.text = append(p.text, h.intr[written:h.piece[fit-1]]...)
			p.reserved += int(h.reserve[fit-1] - done)
			piece = fit
		}
		if piece < len(h.piece) {
			p.text = appendBlanks(p.text, border-p.size())
			p.reserved = border
		}
	}
}

// searchInt32 returns how many of the ascending s are not above n.
func searchInt32(s []int32, n int32) int {
	from, to := 0, len(s)
	for from < to {
		if m := (from + to) / 2; s[m] <= n {
			from = m + 1
		} else {
			to = m
		}
	}
	return from
}

// rest ends the intr line with what is left of the room, so that the lines
// after it fit in what follows, within one page.
func (p *pages) rest(h *HostStat, t *view.Tasks) []byte {
	newline := 0
	if len(h.intr) > 0 {
		newline = 1
	}
	room := h.room + newline
	size := roundUp(p.reserved+room, statStep)
	if border := (size - 1) / pageSize * pageSize; room <= pageSize && size-room < border {
		size = roundUp(border+room, statStep)
	}
	from := len(p.text)
	if newline > 0 {
		p.text = append(p.text, '\n')
	}
	at := 0
	for _, s := range h.spots {
		p.text = append(p.text, h.rest[at:s.from]...)
		p.text = strconv.AppendUint(p.text, s.of(t), 10)
		at = s.to
	}
	p.text = append(p.text, h.rest[at:]...)
	slack := size - p.size()
	if newline == 0 { // before the last newline
		from = len(p.text) - 1
	}
	tail := len(p.text) - from
	p.text = appendBlanks(p.text, slack)
	copy(p.text[from+slack:], p.text[from:from+tail])
	fillBlanks(p.text[from : from+slack])
	return p.text
}

func fillBlanks(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, blanks):]
	}
}

func roundUp(n, step int) int { return (n + step - 1) / step * step }
