// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"net"
	"time"
)

// Release asks the process that serves to take podproc out of all containers,
// and waits until it has; result gets what it answers. ErrNobody if nobody
// serves.
func (n *Node) Release(within time.Duration, result any) error {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: n.socket("sock")})
	if err != nil {
		return ErrNobody
	}
	defer conn.Close()
	l := newLink(conn)
	if err := l.send(sayRelease, nil); err != nil {
		return ErrNobody
	}
	return l.result(within, result)
}

// ErrNobody says that no process serves.
var ErrNobody = errors.New("no podproc-node serves")
