package conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// conninfoOrder is the fixed order of keywords (row H-092): equal contents give equal texts, so
// that a change is seen by comparing them.
func conninfoOrder() []string {
	return []string{
		"dbname", "user", "password", "passfile", "host", "port", "sslmode", "sslcompression",
		"sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir",
		"application_name", "krbsrvname", "gssencmode", "channel_binding", "sslnegotiation",
		"target_session_attrs",
	}
}

// RenderConnInfo renders a libpq connection string of keyword=value pairs. Empty values are left
// out. Known keywords come in a fixed order, others after them by name.
func RenderConnInfo(kv map[string]string) (string, error) {
	order := conninfoOrder()
	var others []string
	for k := range kv {
		if !validIdentifier(k) {
			return "", fmt.Errorf("connection keyword %q: not a valid name", k)
		}
		if !slices.Contains(order, k) {
			others = append(others, k)
		}
	}
	slices.Sort(others)
	var parts []string
	for _, k := range append(order, others...) {
		v := kv[k]
		if v == "" {
			continue
		}
		if strings.IndexByte(v, 0) >= 0 {
			return "", fmt.Errorf("connection keyword %s: a value cannot hold a zero byte", k)
		}
		parts = append(parts, k+"="+quoteConnValue(v))
	}
	return strings.Join(parts, " "), nil
}

// quoteConnValue leaves plain words bare, quotes the rest, and escapes with backslashes.
func quoteConnValue(v string) string {
	plain := !strings.ContainsFunc(v, func(r rune) bool {
		return r <= ' ' || r == '\'' || r == '\\' || r == '=' || r > '~'
	})
	if plain {
		return v
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// ParseConnInfo reads a keyword=value connection string. URLs are not understood.
func ParseConnInfo(s string) (map[string]string, error) {
	kv := map[string]string{}
	for rest := skipSpace(s); rest != ""; rest = skipSpace(rest) {
		end := strings.IndexFunc(rest, func(r rune) bool { return r == '=' || isSpace(r) })
		if end < 0 {
			return nil, fmt.Errorf("connection string: no \"=\" after %q", rest)
		}
		key := rest[:end]
		if !validIdentifier(key) {
			return nil, fmt.Errorf("connection string: %q is not a keyword", key)
		}
		rest = skipSpace(rest[end:])
		if !strings.HasPrefix(rest, "=") {
			return nil, fmt.Errorf("connection string: no \"=\" after %q", key)
		}
		value, after, err := connValue(skipSpace(rest[1:]))
		if err != nil {
			return nil, fmt.Errorf("connection string: %s: %w", key, err)
		}
		kv[key], rest = value, after
	}
	return kv, nil
}

func connValue(s string) (value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && isSpace(rune(c)):
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("the quote is not closed")
	}
	return b.String(), "", nil
}

func isSpace(r rune) bool {
	return r == ' ' || r >= '\t' && r <= '\r'
}

func skipSpace(s string) string { return strings.TrimLeftFunc(s, isSpace) }
