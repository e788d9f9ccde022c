package port

import (
	"fmt"
	"net"
	"testing"
)

func TestPortsDifferAndAreNeverThoseOfOutgoingConnections(t *testing.T) {
	end := firstOutgoing()
	if end <= lowest {
		t.Skipf("this system gives outgoing connections ports from %d on", end)
	}
	ports, err := Free(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if p < lowest || p >= end || seen[p] {
			t.Errorf("port %d: want one between %d and %d, and each once", p, lowest, end)
		}
		seen[p] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Errorf("port %d is not free: %v", p, err)
			continue
		}
		l.Close()
	}
}
