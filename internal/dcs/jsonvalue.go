package dcs

import (
	"bytes"
	"encoding/json"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pgha/pgha/internal/election"
)

// parseJSON reads exactly one JSON value, numbers kept as text. The second result is false for
// anything else: every value in the store may have been written by hand (row D-75).
func parseJSON(value []byte) (any, bool) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, false
	}
	if dec.More() {
		return nil, false
	}
	return v, true
}

// parseObject reads a JSON object, or gives an empty one.
func parseObject(value []byte) (map[string]any, bool) {
	v, ok := parseJSON(value)
	if !ok {
		return nil, false
	}
	m, ok := v.(map[string]any)
	return m, ok
}

// asString gives a JSON string, or nothing.
func asString(v any) string {
	s, _ := v.(string)
	return s
}

// asObject gives a JSON object, also one that is wrapped in a JSON string (row D-68).
func asObject(v any) map[string]any {
	switch x := v.(type) {
	case map[string]any:
		return x
	case string:
		m, _ := parseObject([]byte(x))
		return m
	default:
		return nil
	}
}

// asList gives a JSON array, also one that is wrapped in a JSON string (row D-68).
func asList(v any) []any {
	switch x := v.(type) {
	case []any:
		return x
	case string:
		inner, _ := parseJSON([]byte(x))
		l, _ := inner.([]any)
		return l
	default:
		return nil
	}
}

// asUint gives a JSON number that is a whole one and not negative.
func asUint(v any) (uint64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u, true
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f != math.Trunc(f) || f >= 1<<53 {
		return 0, false
	}
	return uint64(f), true
}

func asLSN(v any) election.LSN {
	u, _ := asUint(v)
	return election.LSN(u)
}

func asTimeline(v any) election.Timeline {
	u, ok := asUint(v)
	if !ok || u > math.MaxUint32 {
		return 0
	}
	return election.Timeline(u)
}

// asRevision gives a revision of the store.
func asRevision(v any) int64 {
	u, ok := asUint(v)
	if !ok || u > math.MaxInt64 {
		return 0
	}
	return int64(u)
}

// truthy is the incumbent's reading of a raw value as a flag: the text "false" is true (row C-130).
func truthy(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case json.Number:
		f, err := x.Float64()
		return err != nil || f != 0
	case float64:
		return x != 0
	case int:
		return x != 0
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	default:
		return true
	}
}

// boolWord reads on, off, true, false, yes, no, 1, 0 in any case, the way nostream is read (row C-137).
func boolWord(v any) bool {
	switch x := v.(type) {
	case bool:
		return x
	case string:
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "on", "true", "yes", "1", "t", "y":
			return true
		}
		return false
	case json.Number:
		return x.String() == "1"
	case int:
		return x == 1
	case float64:
		return x == 1
	default:
		return false
	}
}

// wholeNumber reads a number that may also be written as text, such as a tag from a YAML file.
func wholeNumber(v any) (int, bool) {
	switch x := v.(type) {
	case int:
		return x, true
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<31 {
			return int(x), true
		}
	case json.Number:
		if n, err := strconv.ParseInt(x.String(), 10, 32); err == nil {
			return int(n), true
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 32); err == nil {
			return int(n), true
		}
	}
	return 0, false
}

// hostPort joins a host and a port, with brackets round an IPv6 literal.
func hostPort(host, port string) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// object writes a JSON object whose members keep the order of the calls, in the incumbent's
// bytes: no blanks, and everything beyond ASCII escaped (row D-25).
type object struct {
	buf []byte
}

func (o *object) put(key string, value any) {
	if len(o.buf) == 0 {
		o.buf = append(make([]byte, 0, objectRoom), '{')
	} else {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(appendJSON(o.buf, key), ':')
	o.buf = appendJSON(o.buf, value)
}

// objectRoom is enough for most objects.
const objectRoom = 96

func (o *object) putString(key, value string) {
	if value != "" {
		o.put(key, value)
	}
}

func (o *object) bytes() []byte {
	if len(o.buf) == 0 {
		return []byte("{}")
	}
	return append(o.buf, '}')
}

// appendJSON adds a value as encodeJSON writes it. What the members and the leader publish over and over is
// written here directly.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		if plainASCII(v) {
			return append(append(append(b, '"'), v...), '"')
		}
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case uint32:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case bool:
		return strconv.AppendBool(b, v)
	case rawJSON:
		return append(b, v...)
	case []rawJSON:
		b = append(b, '[')
		for i, raw := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, raw...)
		}
		return append(b, ']')
	}
	return append(b, encodeJSON(v)...)
}

// plainASCII says that a string stands in JSON as it is.
func plainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// encodeJSON never fails for the values that this package gives it; a value that JSON cannot hold
// (a NaN in a free tag) becomes null rather than a broken member key.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null")
	}
	return escapeNonASCII(bytes.TrimRight(b.Bytes(), "\n"))
}

// escapeNonASCII writes every rune beyond ASCII as \uXXXX. Inside valid JSON such runes stand only
// in strings, where the two forms mean the same.
func escapeNonASCII(in []byte) []byte {
	ascii := true
	for _, c := range in {
		if c >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return in
	}
	out := make([]byte, 0, len(in)+16)
	for len(in) > 0 {
		r, size := utf8.DecodeRune(in)
		in = in[size:]
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, hi), lo)
		default:
			out = appendEscape(out, r)
		}
	}
	return out
}

func appendEscape(out []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
