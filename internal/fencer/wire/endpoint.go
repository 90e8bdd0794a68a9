package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxTableName is what the kernel allows for a name, its final zero included, with room to spare.
const maxTableName = 200

// Endpoint is where a server listens. No other server of the same network namespace can listen
// there, so the table can bear its name.
type Endpoint struct {
	Port uint16 `json:"port"`
	// Addresses narrows the fence to local addresses; none: to all of them.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// NewEndpoint reads the addresses as PostgreSQL's listen_addresses has them. A name but localhost, or
// a word for all addresses among them, leaves the fence to the port alone, on every address of the machine. A port that cannot be is no endpoint.
func NewEndpoint(addresses []string, port int) Endpoint {
	if port < 1 || port > 65535 {
		return Endpoint{}
	}
	e := Endpoint{Port: uint16(port)}
	for _, a := range addresses {
		if strings.TrimSpace(a) == "localhost" {
			e.Addresses = append(e.Addresses, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
			continue
		}
		ip, err := netip.ParseAddr(strings.TrimSpace(a))
		if err != nil || ip.IsUnspecified() {
			return Endpoint{Port: e.Port}
		}
		e.Addresses = append(e.Addresses, ip.Unmap().WithZone(""))
	}
	slices.SortFunc(e.Addresses, netip.Addr.Compare)
	e.Addresses = slices.Compact(e.Addresses)
	if len(e.Table()) > maxTableName {
		e.Addresses = nil
	}
	return e
}

// IsZero says that there is to be no fence.
func (e Endpoint) IsZero() bool { return e.Port == 0 }

// Equal says that both are the same table with the same rules.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Port == o.Port && slices.Equal(e.Addresses, o.Addresses)
}

// Table is the name of the table: pgha_5432, or with addresses pgha_5432_10.0.0.1.
func (e Endpoint) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgha_%d", e.Port)
	for _, a := range e.Addresses {
		b.WriteString("_" + strings.ReplaceAll(a.String(), ":", "-"))
	}
	return b.String()
}
