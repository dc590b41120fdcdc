// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"
)

// blanks is what room is made of.
var blanks = bytes.Repeat([]byte{' '}, 512)

// appendBlanks appends n blanks.
func appendBlanks(dst []byte, n int) []byte {
	for ; n > len(blanks); n -= len(blanks) {
		dst = append(dst, blanks...)
	}
	return append(dst, blanks[:max(0, n)]...)
}

// cutLine returns the first line of b with its newline, and the rest. A last
// line may lack its newline.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1], b[i+1:]
	}
	return b, nil
}

// parseUint parses decimal digits and nothing else.
func parseUint(b []byte) (n uint64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxUint64-uint64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// number returns where the first run of digits in b is, from > len(b) where
// there is none.
func number(b []byte) (from, to int) {
	for from < len(b) && !isDigit(b[from]) {
		from++
	}
	to = from
	for to < len(b) && isDigit(b[to]) {
		to++
	}
	return from, to
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits returns how many digits n has in decimal.
func digits(n uint64) int {
	d := 1
	for ; n > 9; n /= 10 {
		d++
	}
	return d
}

// appendLeft appends n and blanks up to the width w.
func appendLeft(dst []byte, n uint64, w int) []byte {
	start := len(dst)
	dst = strconv.AppendUint(dst, n, 10)
	return appendBlanks(dst, w-(len(dst)-start))
}

// endLine ends the line that begins at start with blanks and a newline, so that
// it has at least size bytes.
func endLine(dst []byte, start, size int) []byte {
	return append(appendBlanks(dst, size-1-(len(dst)-start)), '\n')
}

// setRight writes n right-aligned over field; the highest number that fits in
// place of one that does not.
func setRight(field []byte, n uint64) {
	if digits(n) > len(field) {
		for i := range field {
			field[i] = '9'
		}
		return
	}
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			copy(field[:i], blanks)
			return
		}
	}
}

// sub returns a - b, or 0 where that is negative.
func sub[T ~uint64](a, b T) T { return a - min(a, b) }

// add returns a + b, or the highest number where that is above it.
func add(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}

// scale returns n*by/of, at most n for by <= of.
func scale(n, by, of uint64) uint64 {
	if of == 0 {
		return 0
	}
	hi, lo := bits.Mul64(n, by)
	if hi >= of {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, of)
	return q
}
