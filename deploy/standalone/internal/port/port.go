// Package port finds ports for engines that must come back at the same address after they died.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
)

const (
	lowest = 10_000 // below are the well-known services
	tries  = 100    // for each port
)

// Free finds n ports of 127.0.0.1 on which nobody listens. They lie below the range from which the system takes the
// local ports of outgoing connections: in it, any connection that somebody makes while the engine is down may sit on the
// engine's port for as long as it lives, and even connect to itself.
func Free(n int) ([]int, error) {
	outgoing := firstOutgoing()
	ports := make([]int, 0, n)
	for range n {
		l, err := listenBelow(outgoing)
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all are held while searching, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func listenBelow(end int) (net.Listener, error) {
	if end <= lowest {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	var failures []error
	for range tries {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(end-lowest)))
		if err == nil {
			return l, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("%d ports between %d and %d: %w", tries, lowest, end, errors.Join(failures[:3]...))
}

// firstOutgoing is the first local port that the system gives to outgoing connections: Linux tells, and others that we
// know begin no earlier than its default.
func firstOutgoing() int {
	const usual = 32_768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var first int
	if _, err := fmt.Sscan(strings.TrimSpace(string(text)), &first); err != nil {
		return usual
	}
	return first
}
