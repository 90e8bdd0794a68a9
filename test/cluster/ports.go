package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the ephemeral range, so that no outgoing connection can sit on one.
const (
	firstPort = 10000
	lastPort  = 32000
)

// ports hands out listening addresses. It proves that each was free by binding it once, and never
// hands one out twice.
type ports struct {
	taken map[string]bool
}

// pick returns preferred on address if it can be bound, else a random free port there.
func (p *ports) pick(address string, preferred int) (int, error) {
	if preferred != 0 && p.take(address, preferred) {
		return preferred, nil
	}
	for range 200 {
		if port := firstPort + rand.IntN(lastPort-firstPort); p.take(address, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("free port on %s: none found", address)
}

func (p *ports) take(address string, port int) bool {
	where := net.JoinHostPort(address, strconv.Itoa(port))
	if p.taken[where] {
		return false
	}
	l, err := net.Listen("tcp", where)
	if err != nil {
		return false
	}
	if l.Close() != nil {
		return false
	}
	p.taken[where] = true
	return true
}

// randomBlock is the first three octets of loopback addresses for one run. Two runs at once
// differ with high probability, and if not, pick gives them different ports.
func randomBlock() string {
	return fmt.Sprintf("127.%d.%d", 1+rand.IntN(254), 1+rand.IntN(254))
}
