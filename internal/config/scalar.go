package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// longest bounds every duration. It is far above any sensible setting, and far below where
// arithmetic with time.Duration overflows.
const longest = 365 * 24 * time.Hour

// Default ports.
const (
	portPostgreSQL = 5432
	portRestAPI    = 8008
	portEtcd       = 2379
	portEtcdPeer   = 2380
)

// parseBool understands the words of the interface in any case, and the one-letter answers not.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "on", "true", "yes", "1":
		return true, nil
	case "off", "false", "no", "0":
		return false, nil
	default:
		return false, errors.New("want true or false")
	}
}

// parseInt reads a whole number. The leading zero of file modes means octal.
func parseInt(s string) (int64, error) {
	s = strings.ReplaceAll(strings.TrimSpace(s), "_", "")
	base := 10
	digits := strings.TrimLeft(s, "+-")
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0o"):
		base = 0
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		return 0, errors.New("want a whole number")
	}
	return n, nil
}

// splitUnit takes "30 min" apart.
func splitUnit(s string) (number, unit string) {
	s = strings.TrimSpace(s)
	i := strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && r != '.' && r != '-' && r != '+'
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

var errDuration = errors.New("want seconds, or a number with a unit, e.g. 10, 1.5 or 300ms")

// parseDuration reads a number of seconds, or a number with PostgreSQL's or Go's unit.
func parseDuration(s string) (time.Duration, error) {
	number, unit := splitUnit(s)
	var scale time.Duration
	switch unit {
	case "", "s", "sec":
		scale = time.Second
	case "us", "µs":
		scale = time.Microsecond
	case "ms":
		scale = time.Millisecond
	case "m", "min":
		scale = time.Minute
	case "h":
		scale = time.Hour
	case "d":
		scale = 24 * time.Hour
	default:
		// Go's own form may have several units, such as 1m30s.
		d, err := time.ParseDuration(strings.TrimSpace(s))
		if err != nil {
			return 0, errDuration
		}
		return boundDuration(d)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) {
		return 0, errDuration
	}
	f *= float64(scale)
	if math.Abs(f) > float64(longest) {
		return 0, fmt.Errorf("want at most %d seconds", int64(longest/time.Second))
	}
	return boundDuration(time.Duration(math.Round(f)))
}

func boundDuration(d time.Duration) (time.Duration, error) {
	if d > longest || d < -longest {
		return 0, fmt.Errorf("want at most %d seconds", int64(longest/time.Second))
	}
	return d, nil
}

// parseBytes reads a number of bytes, or a number with PostgreSQL's unit. A bare number
// counts bare bytes.
func parseBytes(s string, bare int64) (int64, error) {
	bad := errors.New("want a size, e.g. 16777216 or 16MB")
	number, unit := splitUnit(s)
	scale := bare
	switch unit {
	case "":
	case "B":
		scale = 1
	case "kB", "KB", "k", "K":
		scale = 1 << 10
	case "MB", "M":
		scale = 1 << 20
	case "GB", "G":
		scale = 1 << 30
	case "TB", "T":
		scale = 1 << 40
	default:
		return 0, bad
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f*float64(scale)) > 1<<60 {
		return 0, bad
	}
	return int64(f * float64(scale)), nil
}

// SplitHostPort takes host:port apart. IPv6 addresses should stand in brackets when a port follows;
// without brackets the last group is the port if what is before it is an address. Without a port
// defaultPort is taken; if that is zero a port must be there. The host may be empty or "*".
func SplitHostPort(s string, defaultPort int) (host string, port int, err error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", 0, errors.New("address is empty")
	}
	if address, number, ok := bareIPv6(s); ok {
		host, port = address, defaultPort
		if number != "" {
			port, _ = strconv.Atoi(number)
		}
	} else if !strings.Contains(s, ":") {
		host, port = s, defaultPort
	} else {
		h, p, splitErr := net.SplitHostPort(s)
		if splitErr != nil {
			return "", 0, fmt.Errorf("address %q: not host:port", s)
		}
		n, numErr := strconv.Atoi(p)
		if numErr != nil {
			return "", 0, fmt.Errorf("address %q: port is not a number", s)
		}
		host, port = h, n
	}
	if port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: no port between 1 and 65535", s)
	}
	if strings.ContainsAny(host, " \t/@'\"\\?#") {
		return "", 0, fmt.Errorf("address %q: not a host name", s)
	}
	return host, port, nil
}

// bareIPv6 recognizes an IPv6 address without brackets, or with brackets and no port.
func bareIPv6(s string) (address, port string, ok bool) {
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		_, err := netip.ParseAddr(inner)
		return inner, "", bracketed && err == nil
	}
	if strings.Count(s, ":") < 2 {
		return "", "", false
	}
	i := strings.LastIndexByte(s, ':')
	if _, err := strconv.Atoi(s[i+1:]); err == nil {
		if _, err := netip.ParseAddr(s[:i]); err == nil {
			return s[:i], s[i+1:], true
		}
	}
	_, err := netip.ParseAddr(s)
	return s, "", err == nil
}

// splitListen takes addr[,addr…]:port apart.
func splitListen(s string, defaultPort int) (hosts []string, port int, err error) {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		fallback := defaultPort
		if i == len(parts)-1 && !standsAlone(part) {
			fallback = 0
		} else if i < len(parts)-1 {
			fallback = portPostgreSQL // a stand-in: only the last part carries the port
		}
		var host string
		host, port, err = SplitHostPort(part, fallback)
		if err != nil {
			return nil, 0, err
		}
		hosts = append(hosts, host)
	}
	return hosts, port, nil
}

// standsAlone says whether an address may do without a port. A bare word may not: it is more
// often a mistake than the name of a host to listen on.
func standsAlone(s string) bool {
	s = strings.Trim(strings.TrimSpace(s), "[]")
	if s == "*" || s == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isAnyHost says whether listening on this host means listening on all addresses.
func isAnyHost(host string) bool {
	return host == "" || host == "*" || host == "0.0.0.0" || host == "::"
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// hostPort is the opposite of SplitHostPort.
func hostPort(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// ListenAddresses gives the addresses and the port that PostgreSQL listens on. An empty host
// means any, as "*" does.
func (p PostgreSQL) ListenAddresses() (hosts []string, port int) {
	hosts, port, err := splitListen(p.Listen, portPostgreSQL)
	if err != nil {
		return nil, 0 // Validate has refused it
	}
	return hosts, port
}
