package conf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// SyncMethod says how synchronous standbys are chosen from the list.
type SyncMethod uint8

// The methods.
const (
	// SyncOff is an empty setting: commits wait for nobody.
	SyncOff SyncMethod = iota
	// SyncPriority waits for the first Num names in the list that are connected.
	SyncPriority
	// SyncAny waits for any Num of the names.
	SyncAny
)

// SyncNames is the content of synchronous_standby_names.
type SyncNames struct {
	Method SyncMethod
	Num    int
	Names  []string // "*" matches every name
}

// ErrSyncNames marks a text that synchronous_standby_names cannot hold.
var ErrSyncNames = errors.New("synchronous_standby_names")

// Render writes the setting's text (rows H-133 and H-147): the names sorted, "n1" alone for one
// name by priority, "2 (n1,n2)" for several, "ANY 1 (n1)" for a quorum.
func (s SyncNames) Render() (string, error) {
	if s.Method == SyncOff {
		return "", nil
	}
	if s.Num < 1 || len(s.Names) == 0 {
		return "", fmt.Errorf("%w: %d of %d names", ErrSyncNames, s.Num, len(s.Names))
	}
	names := slices.Sorted(slices.Values(s.Names))
	plain := regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9$]*$`)
	for i, n := range names {
		if n == "" || strings.IndexByte(n, 0) >= 0 {
			return "", fmt.Errorf("%w: name %q", ErrSyncNames, n)
		}
		if n == "*" || plain.MatchString(n) && !isSyncKeyword(n) {
			continue
		}
		names[i] = `"` + strings.ReplaceAll(n, `"`, `""`) + `"`
	}
	list := strings.Join(names, ",")
	switch {
	case s.Method == SyncAny:
		return fmt.Sprintf("ANY %d (%s)", s.Num, list), nil
	case s.Num == 1 && len(names) == 1:
		return list, nil
	default:
		return fmt.Sprintf("%d (%s)", s.Num, list), nil
	}
}

func isSyncKeyword(s string) bool {
	return strings.EqualFold(s, "first") || strings.EqualFold(s, "any")
}

// syncToken is a word, a quoted name, or one of ( ) ,
type syncToken struct {
	text   string
	quoted bool
}

// ParseSyncNames reads the setting in every form that PostgreSQL takes.
func ParseSyncNames(text string) (SyncNames, error) {
	toks, err := syncTokens(text)
	if err != nil || len(toks) == 0 {
		return SyncNames{}, err
	}
	out := SyncNames{Method: SyncPriority, Num: 1}
	explicit := false
	// "first" and "any" are names too, unless a number follows.
	if len(toks) > 1 && !toks[0].quoted && isSyncKeyword(toks[0].text) && isNumber(toks[1].text) {
		if strings.EqualFold(toks[0].text, "any") {
			out.Method = SyncAny
		}
		toks, explicit = toks[1:], true
	}
	if len(toks) > 1 && !toks[0].quoted && isNumber(toks[0].text) && toks[1] == (syncToken{text: "("}) {
		if out.Num, err = strconv.Atoi(toks[0].text); err != nil || out.Num < 1 {
			return SyncNames{}, fmt.Errorf("%w: %q: want a number above zero", ErrSyncNames, toks[0].text)
		}
		if toks[len(toks)-1] != (syncToken{text: ")"}) {
			return SyncNames{}, fmt.Errorf("%w: %q: the list is not closed", ErrSyncNames, text)
		}
		toks, explicit = toks[2:len(toks)-1], false
	}
	if explicit {
		return SyncNames{}, fmt.Errorf("%w: %q: want a number and a list in parentheses", ErrSyncNames, text)
	}
	out.Names, err = syncList(toks)
	return out, err
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func syncList(toks []syncToken) ([]string, error) {
	var names []string
	for i, t := range toks {
		comma := t == syncToken{text: ","}
		if comma != (i%2 == 1) || !t.quoted && (t.text == "(" || t.text == ")") {
			return nil, fmt.Errorf("%w: %q out of place", ErrSyncNames, t.text)
		}
		if !comma {
			names = append(names, t.text)
		}
	}
	if len(toks)%2 == 0 {
		return nil, fmt.Errorf("%w: want names with commas between them", ErrSyncNames)
	}
	return names, nil
}

func syncTokens(s string) ([]syncToken, error) {
	var toks []syncToken
	for s = skipSpace(s); s != ""; s = skipSpace(s) {
		switch c := s[0]; {
		case strings.IndexByte("(),*", c) >= 0:
			toks = append(toks, syncToken{text: s[:1]})
			s = s[1:]
		case c == '"':
			name, rest, err := syncQuoted(s)
			if err != nil {
				return nil, err
			}
			toks = append(toks, syncToken{text: name, quoted: true})
			s = rest
		default:
			end := strings.IndexFunc(s, func(r rune) bool { return isSpace(r) || strings.ContainsRune(`(),*"`, r) })
			if end < 0 {
				end = len(s)
			}
			toks = append(toks, syncToken{text: s[:end]})
			s = s[end:]
		}
	}
	return toks, nil
}

func syncQuoted(s string) (name, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		if b.Len() == 0 {
			return "", "", fmt.Errorf("%w: an empty name", ErrSyncNames)
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", fmt.Errorf("%w: the quote is not closed", ErrSyncNames)
}
