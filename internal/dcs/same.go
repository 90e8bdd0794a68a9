package dcs

import (
	"bytes"
	"encoding/json"
	"slices"
)

// SameMember says whether two member values have the same content, so that writing the second over
// the first would tell nobody anything (row D-25): objects are compared by key, anything else by
// its text, so that 1 equals "1".
func SameMember(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	av, aok := parseObject(a)
	bv, bok := parseObject(b)
	return aok && bok && sameValue(av, bv)
}

func sameValue(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for key, v := range x {
			w, ok := y[key]
			if !ok || !sameValue(v, w) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, sameValue)
	default:
		text, ok := comparableText(a)
		other, otherOK := comparableText(b)
		return ok && otherOK && text == other
	}
}

// comparableText gives the text by which scalars are compared.
func comparableText(v any) (string, bool) {
	switch x := v.(type) {
	case nil:
		return "None", true
	case bool:
		if x {
			return "True", true
		}
		return "False", true
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	default:
		return "", false
	}
}

// sortedKeys gives the keys of a free map in a stable order.
func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
