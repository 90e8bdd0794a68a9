package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// decodeJSON reads exactly one JSON value. Numbers keep their text.
func decodeJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

// decodeObject reads a JSON object.
func decodeObject(data []byte) (map[string]any, error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("want a JSON object")
	}
	return m, nil
}

// encodeJSON writes compact JSON with sorted keys. Unlike json.Marshal it leaves <, > and & as
// they are: commands are full of them, and people read this text.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// fromAny turns plain Go values into nodes. Maps are walked in sorted order, so that warnings
// come in the same order each time.
func fromAny(v any) *node {
	switch v := v.(type) {
	case nil:
		return &node{}
	case map[string]any:
		m := newMap("")
		for _, key := range slices.Sorted(maps.Keys(v)) {
			m.set(key, fromAny(v[key]))
		}
		return m
	case []any:
		list := &node{kind: listNode}
		for _, item := range v {
			list.items = append(list.items, fromAny(item))
		}
		return list
	case bool:
		return &node{kind: scalarNode, scalar: boolScalar, text: textOf(v)}
	case json.Number:
		kind := intScalar
		if strings.ContainsAny(v.String(), ".eE") {
			kind = floatScalar
		}
		return &node{kind: scalarNode, scalar: kind, text: v.String()}
	case float64:
		return &node{kind: scalarNode, scalar: floatScalar, text: textOf(v)}
	case int, int64:
		return &node{kind: scalarNode, scalar: intScalar, text: textOf(v)}
	default:
		return newText(textOf(v), "")
	}
}
